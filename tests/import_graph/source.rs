//! Rust source to arrows: which file names what another one defines.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Meta, UseTree, Visibility};

/// Texts by their path under the source folder, as in `batch/mod.rs`.
pub type Files = BTreeMap<String, String>;

/// From each file to those whose definitions it names.
pub type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Arrows of the crate whose root is `lib.rs`.
///
/// A name leads to the file that defines it, through every re-export. `mod child;` and a re-export of what lies below are
/// no arrows: they make no use of what they name.
///
/// # Panics
/// A file is missing, unused, or no Rust.
pub fn arrows(files: &Files) -> Arrows {
    let mut tree = Tree { files, modules: Vec::new() };
    tree.load("lib.rs", "", None);
    let mut arrows: Arrows = tree.modules.iter().map(|m| (m.file.clone(), BTreeSet::new())).collect();
    let unused: Vec<_> = files.keys().filter(|file| !arrows.contains_key(*file)).collect();
    assert!(unused.is_empty(), "no `mod` names {unused:?}");
    for (at, module) in tree.modules.iter().enumerate() {
        let imports = module.imports.iter().filter(|i| !(i.reexport && tree.below(at, &i.path)));
        for path in module.paths.iter().chain(imports.map(|i| &i.path)) {
            let found = tree.definitions(at, path, &mut BTreeSet::new());
            let to = found.into_iter().filter(|file| *file != module.file);
            arrows.get_mut(&module.file).expect("a file of a module").extend(to);
        }
    }
    arrows
}

/// A module, a file's or an inline one.
struct Module {
    file: String,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// Names that it defines.
    items: BTreeSet<String>,
    /// It includes generated text: it defines whatever else is asked of it.
    generated: bool,
    imports: Vec<Import>,
    /// Paths that its code names.
    paths: Vec<Vec<String>>,
}

struct Import {
    /// The name in scope; `*` for all.
    name: String,
    path: Vec<String>,
    reexport: bool,
}

struct Tree<'a> {
    files: &'a Files,
    modules: Vec<Module>,
}

impl Tree<'_> {
    /// Reads a file and all below it; `folder` is where its child modules lie.
    fn load(&mut self, file: &str, folder: &str, parent: Option<usize>) -> usize {
        let text = self.files.get(file).unwrap_or_else(|| panic!("{file} is missing"));
        let parsed = syn::parse_file(text).unwrap_or_else(|e| panic!("{file}: {e}"));
        self.module(file, folder, parent, &parsed.items)
    }

    fn module(&mut self, file: &str, folder: &str, parent: Option<usize>, items: &[Item]) -> usize {
        let at = self.modules.len();
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            children: BTreeMap::new(),
            items: items.iter().filter_map(defined).collect(),
            generated: items.iter().any(|i| matches!(i, Item::Macro(i) if i.mac.path.is_ident("include"))),
            imports: Vec::new(),
            paths: Vec::new(),
        });
        let mut names = Names::default();
        items.iter().for_each(|item| names.visit_item(item));
        (self.modules[at].imports, self.modules[at].paths) = (names.imports, names.paths);
        for child in names.modules {
            let (name, inner) = (child.ident.to_string(), format!("{folder}{}/", child.ident));
            let index = match &child.content {
                Some((_, items)) => self.module(file, &inner, Some(at), items),
                None => {
                    let flat = format!("{folder}{name}.rs");
                    let own = if self.files.contains_key(&flat) { flat } else { format!("{inner}mod.rs") };
                    self.load(&own, &inner, Some(at))
                }
            };
            self.modules[at].children.insert(name, index);
        }
        at
    }

    /// Whether a path names something in a module below `at`.
    fn below(&self, at: usize, path: &[String]) -> bool {
        let first = path.iter().find(|s| *s != "self");
        first.is_some_and(|s| self.modules[at].children.contains_key(s))
    }

    /// Files that define what a path names, seen from a module; none for other crates and for modules themselves.
    /// `seen` ends circles of re-exports.
    fn definitions(
        &self,
        at: usize,
        path: &[String],
        seen: &mut BTreeSet<(usize, Vec<String>)>,
    ) -> BTreeSet<String> {
        let module = &self.modules[at];
        let Some((first, rest)) = path.split_first() else { return BTreeSet::new() };
        if !seen.insert((at, path.to_vec())) {
            return BTreeSet::new();
        }
        match (first.as_str(), module.parent) {
            ("crate", _) => return self.definitions(0, rest, seen),
            ("self", _) => return self.definitions(at, rest, seen),
            ("super", Some(parent)) => return self.definitions(parent, rest, seen),
            // Of a glob: whatever lies there.
            ("*", _) => {
                let imports = module.imports.iter().flat_map(|i| self.definitions(at, &i.path, seen));
                return imports.chain([module.file.clone()]).collect();
            }
            _ => {}
        }
        let mut found = BTreeSet::new();
        if let Some(&child) = module.children.get(first) {
            found.extend(self.definitions(child, rest, seen));
        }
        if module.items.contains(first) {
            found.insert(module.file.clone());
        }
        // `use pjrt::pjrt` can only mean a crate.
        let of_crate = |path: &[String]| path.len() > 1 && path[0] == *first;
        for import in module.imports.iter().filter(|i| i.name == *first && !of_crate(&i.path)) {
            let whole: Vec<String> = import.path.iter().chain(rest).cloned().collect();
            found.extend(self.definitions(at, &whole, seen));
        }
        if found.is_empty() && module.generated {
            found.insert(module.file.clone());
        }
        found
    }
}

/// The name that an item defines, other than a module's.
fn defined(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(i) => i.ident.to_string(),
        Item::Enum(i) => i.ident.to_string(),
        Item::Fn(i) => i.sig.ident.to_string(),
        Item::Macro(i) => i.ident.as_ref()?.to_string(),
        Item::Static(i) => i.ident.to_string(),
        Item::Struct(i) => i.ident.to_string(),
        Item::Trait(i) => i.ident.to_string(),
        Item::Type(i) => i.ident.to_string(),
        Item::Union(i) => i.ident.to_string(),
        _ => return None,
    })
}

/// What a module's own code names, and the modules in it; tests aside.
#[derive(Default)]
struct Names {
    imports: Vec<Import>,
    paths: Vec<Vec<String>>,
    modules: Vec<ItemMod>,
}

impl<'a> Visit<'a> for Names {
    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        if !item.attrs.iter().any(of_tests) {
            self.modules.push(item.clone());
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        let reexport = !matches!(item.vis, Visibility::Inherited);
        self.import(&item.tree, &mut Vec::new(), reexport);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        self.paths.push(path.segments.iter().map(|s| s.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    /// What a macro is given need not be Rust: any `a::b` in it counts as a path.
    fn visit_macro(&mut self, called: &'a syn::Macro) {
        self.tokens(&called.tokens);
        visit::visit_macro(self, called);
    }
}

impl Names {
    fn import(&mut self, tree: &UseTree, prefix: &mut Vec<String>, reexport: bool) {
        let mut leaf = |prefix: &[String], last: String, name: String| {
            // `use path::{self}` names the path itself.
            let last = Some(last).filter(|last| last != "self");
            let path: Vec<String> = prefix.iter().cloned().chain(last).collect();
            let name = if name == "self" { path.last().cloned().unwrap_or_default() } else { name };
            self.imports.push(Import { name, path, reexport });
        };
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.import(&path.tree, prefix, reexport);
                prefix.pop();
            }
            UseTree::Name(name) => leaf(prefix, name.ident.to_string(), name.ident.to_string()),
            UseTree::Rename(name) => leaf(prefix, name.ident.to_string(), name.rename.to_string()),
            UseTree::Glob(_) => leaf(prefix, "*".to_owned(), "*".to_owned()),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, prefix, reexport));
            }
        }
    }

    fn tokens(&mut self, tokens: &TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens.clone() {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.paths.push(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.paths.push(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(&group.stream());
                    }
                }
            }
        }
        self.paths.push(path);
    }
}

fn of_tests(attribute: &Attribute) -> bool {
    matches!(&attribute.meta, Meta::List(list) if list.path.is_ident("cfg") && list.tokens.to_string() == "test")
}
