use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Children of a node by the token ids of their page.
type Children = BTreeMap<Box<[i32]>, usize>;

#[derive(Debug)]
struct Node {
    parent: usize,
    tokens: Box<[i32]>,
    page: i32,
    children: Children,
    holders: usize,
    last_use: u64,
}

/// The radix tree: which page holds which tokens after which others, who holds a page, and when it was last used.
#[derive(Debug)]
pub(super) struct Tree {
    page_size: usize,
    /// Node 0 is the root and has no page.
    nodes: Vec<Option<Node>>,
    vacant: Vec<usize>,
    /// Leaves that nobody holds, by time of their last use.
    idle: BTreeSet<(u64, usize)>,
    held: usize,
    clock: u64,
}

/// The root's index.
pub(super) const ROOT: usize = 0;

impl Tree {
    pub(super) fn new(page_size: usize) -> Self {
        let root = Node {
            parent: ROOT,
            tokens: Box::default(),
            page: -1,
            children: Children::new(),
            holders: 1,
            last_use: 0,
        };
        let nodes = vec![Some(root)];
        Tree { page_size, nodes, vacant: Vec::new(), idle: BTreeSet::new(), held: 0, clock: 0 }
    }

    /// Pages in the tree.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.vacant.len() - 1
    }

    /// Pages that somebody holds.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn page(&self, node: usize) -> i32 {
        self.node(node).page
    }

    /// Nodes of the longest path that `tokens` begin with, and the tokens that it covers. The last page may cover
    /// more than `tokens` have left: its keys depend on nothing behind them.
    pub(super) fn find(&self, tokens: &[i32]) -> (Vec<usize>, usize) {
        let mut path = Vec::new();
        let mut at = ROOT;
        let mut found = 0;
        for chunk in tokens.chunks(self.page_size) {
            match self.child(at, chunk) {
                Some(child) => at = child,
                None => break,
            }
            path.push(at);
            found += chunk.len();
        }
        (path, found)
    }

    /// The child whose page begins with `chunk`.
    pub(super) fn child(&self, node: usize, chunk: &[i32]) -> Option<usize> {
        let from = (Bound::Included(chunk), Bound::Unbounded);
        let (tokens, &child) = self.node(node).children.range::<[i32], _>(from).next()?;
        tokens.starts_with(chunk).then_some(child)
    }

    /// Adds a page below `parent`. It is held once, by who adds it.
    pub(super) fn insert(&mut self, parent: usize, tokens: &[i32], page: i32) -> usize {
        let last_use = self.tick();
        let node =
            Node { parent, tokens: tokens.into(), page, children: Children::new(), holders: 1, last_use };
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            self.nodes.len() - 1
        });
        self.nodes[at] = Some(node);
        self.held += 1;
        let parent_use = self.node(parent).last_use;
        self.idle.remove(&(parent_use, parent));
        self.node_mut(parent).children.insert(tokens.into(), at);
        at
    }

    /// One more holder.
    pub(super) fn hold(&mut self, at: usize) {
        let now = self.tick();
        let node = self.node_mut(at);
        let key = (node.last_use, at);
        node.holders += 1;
        node.last_use = now;
        let first = node.holders == 1;
        if first {
            self.idle.remove(&key);
            self.held += 1;
        }
    }

    /// One holder less.
    pub(super) fn let_go(&mut self, at: usize) {
        let now = self.tick();
        let node = self.node_mut(at);
        node.holders -= 1;
        node.last_use = now;
        if node.holders == 0 {
            let leaf = node.children.is_empty();
            self.held -= 1;
            if leaf {
                self.idle.insert((now, at));
            }
        }
    }

    /// Takes out the leaf that was unused for longest, if there is one that nobody holds, and returns its page.
    pub(super) fn evict(&mut self) -> Option<i32> {
        let (_, at) = self.idle.pop_first()?;
        let node = self.nodes[at].take()?;
        self.vacant.push(at);
        let parent = self.node_mut(node.parent);
        parent.children.remove(&node.tokens);
        if parent.holders == 0 && parent.children.is_empty() {
            let key = (parent.last_use, node.parent);
            self.idle.insert(key);
        }
        Some(node.page)
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    #[allow(clippy::expect_used)]
    fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().expect("only live nodes are named")
    }

    #[allow(clippy::expect_used)]
    fn node_mut(&mut self, at: usize) -> &mut Node {
        self.nodes[at].as_mut().expect("only live nodes are named")
    }
}
