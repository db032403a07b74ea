//! The entry function's contract: grid, windows, and which argument is what.

use super::builder::Builder;
use super::error::{EmulatorError, Result};
use super::machine::Function;
use super::text::ast::{Attribute, Dict, Function as Source};
use super::types::{Elem, Space, Type};

/// Grid bounds are given at run time where the text has this value.
const DYNAMIC: i64 = i64::MIN;

/// A block of an array that the pipeline moves.
pub(crate) struct Window {
    /// Block indices from grid indices and prefetch operands; absent for a whole array.
    pub(crate) transform: Option<Transform>,
    pub(crate) bounds: Vec<usize>,
    /// The transform gives element offsets, not block indices.
    pub(crate) by_element: bool,
    pub(crate) double_buffered: bool,
}

pub(crate) struct Transform {
    pub(crate) function: Function,
    pub(crate) site: usize,
}

/// One bound of the grid.
pub(crate) struct Bound {
    /// `None` if given at run time.
    pub(crate) size: Option<i64>,
    pub(crate) parallel: bool,
}

/// An argument of the entry function.
pub(crate) struct Argument {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) elem: Elem,
    pub(crate) space: Space,
}

/// The verified entry function.
pub(crate) struct Signature {
    pub(crate) name: String,
    pub(crate) site: usize,
    pub(crate) main: Function,
    pub(crate) grid: Vec<Bound>,
    pub(crate) prefetch: Vec<Argument>,
    /// Inputs, then outputs; how many of which is known only from a run's operands.
    pub(crate) operands: Vec<Argument>,
    /// By operand; absent for operands in device memory.
    pub(crate) windows: Vec<Option<Window>>,
    pub(crate) scratch: Vec<Argument>,
    /// `memref.alloca` memory with its slots.
    pub(crate) allocas: Vec<(usize, Argument)>,
    /// Sites below this one belong to the entry function and what it calls.
    pub(crate) main_sites: usize,
}

impl Signature {
    pub(crate) fn build<'t>(b: &mut Builder<'_, 't>) -> Result<Signature> {
        let module = b.module;
        let main = module
            .functions
            .iter()
            .find(|f| f.attributes.get("tpu.core_type").is_some())
            .or_else(|| module.functions.iter().find(|f| f.name == "main"));
        let Some(main) = main else {
            let location = module.functions.first().map(|f| f.location).unwrap_or_default();
            let message = "no function with tpu.core_type = #tpu.core_type<tc> and none called main";
            return Err(EmulatorError::verify(location, "module", message));
        };
        let reject = |message: String| EmulatorError::verify(main.location, main.name, message);
        if !main.results.is_empty() {
            return Err(reject("the entry function has no results".to_owned()));
        }
        let count = |name: &str| match main.attributes.get(name) {
            None => Ok(0),
            Some(Attribute::Int(n @ 0..=1024)) => Ok(*n as usize),
            Some(_) => Err(reject(format!("{name} must be a small non-negative integer"))),
        };
        let (prefetch, scratch) = (count("scalar_prefetch")?, count("scratch_operands")?);
        let grid = grid(main)?;
        let arguments = &main.body.arguments;
        let Some(operands) = arguments.len().checked_sub(grid.len() + prefetch + scratch) else {
            let message = format!(
                "{} arguments are fewer than {} grid indices, {prefetch} prefetch and {scratch} scratch operands",
                arguments.len(),
                grid.len()
            );
            return Err(reject(message));
        };
        let (indices, rest) = arguments.split_at(grid.len());
        if let Some((name, ty)) = indices.iter().find(|(_, ty)| *ty != Type::I32) {
            return Err(reject(format!("grid index {} must be i32, not {ty}", name.name)));
        }
        let mut memrefs = Vec::new();
        for (name, ty) in rest {
            let Type::MemRef(shape, elem, space) = ty else {
                return Err(reject(format!("argument {} must be a memref, not {ty}", name.name)));
            };
            let name = name.name.to_owned();
            memrefs.push(Argument { name, shape: shape.clone(), elem: *elem, space: *space });
        }
        let scratch_args = memrefs.split_off(prefetch + operands);
        let operand_args = memrefs.split_off(prefetch);
        if let Some(a) = memrefs.iter().find(|a| a.space != Space::Smem) {
            return Err(reject(format!("prefetch operand {} must be in smem", a.name)));
        }
        for a in memrefs.iter().chain(&operand_args) {
            if a.elem.tensor().is_none() {
                return Err(reject(format!("argument {} has no tensor element type: {}", a.name, a.elem)));
            }
        }
        if let Some(a) = scratch_args.iter().find(|a| a.space.is_hbm()) {
            return Err(reject(format!("scratch operand {} cannot be in {}", a.name, a.space.name())));
        }
        let code = b.function(main)?;
        let allocas = std::mem::take(&mut b.allocas)
            .into_iter()
            .filter_map(|(slot, ty)| match ty {
                Type::MemRef(shape, elem, space) => {
                    Some((slot, Argument { name: "memref.alloca".to_owned(), shape, elem, space }))
                }
                _ => None,
            })
            .collect();
        let main_sites = b.next_site();
        let windows = windows(b, main, &grid, &memrefs, &operand_args)?;
        let site = b.site(main.name, main.location);
        Ok(Signature {
            name: main.name.to_owned(),
            site,
            main: code,
            grid,
            prefetch: memrefs,
            operands: operand_args,
            windows,
            scratch: scratch_args,
            allocas,
            main_sites,
        })
    }
}

fn grid(main: &Source<'_>) -> Result<Vec<Bound>> {
    let reject = |message: &str| EmulatorError::verify(main.location, main.name, message);
    if main.attributes.get("iteration_bounds").is_none() {
        return Ok(Vec::new());
    }
    let Some(bounds) = main.attributes.ints("iteration_bounds") else {
        return Err(reject("iteration_bounds must be a list of integers"));
    };
    if bounds.iter().any(|&n| n != DYNAMIC && !(0..=1 << 24).contains(&n)) {
        return Err(reject("a grid bound must be between 0 and 2^24"));
    }
    let semantics = match main.attributes.get("dimension_semantics") {
        Some(Attribute::List(list)) => list,
        _ => return Err(reject("dimension_semantics is required when iteration_bounds are specified")),
    };
    if semantics.len() != bounds.len() {
        return Err(reject("dimension_semantics and iteration_bounds differ in length"));
    }
    bounds
        .iter()
        .zip(semantics)
        .map(|(&n, s)| {
            let parallel = match s {
                Attribute::Dialect("tpu.dimension_semantics", "parallel") => true,
                Attribute::Dialect("tpu.dimension_semantics", "arbitrary") => false,
                _ => return Err(reject("dimension_semantics must be parallel or arbitrary")),
            };
            Ok(Bound { size: (n != DYNAMIC).then_some(n), parallel })
        })
        .collect()
}

fn windows<'t>(
    b: &mut Builder<'_, 't>,
    main: &Source<'t>,
    grid: &[Bound],
    prefetch: &[Argument],
    operands: &[Argument],
) -> Result<Vec<Option<Window>>> {
    let reject = |message: String| EmulatorError::verify(main.location, main.name, message);
    let empty = Vec::new();
    let params = match main.attributes.get("window_params") {
        Some(Attribute::List(list)) => list,
        Some(_) => return Err(reject("window_params must be a list".to_owned())),
        None if grid.is_empty() => &empty,
        None => {
            return Err(reject("window_params is required when iteration_bounds are specified".to_owned()));
        }
    };
    if !params.is_empty() && params.len() != operands.len() {
        let message = format!("{} window_params for {} inputs and outputs", params.len(), operands.len());
        return Err(reject(message));
    }
    let none = Dict::default();
    operands
        .iter()
        .enumerate()
        .map(|(i, a)| {
            let params = match params.get(i) {
                Some(Attribute::Dict(d)) => d,
                None => &none,
                Some(_) => return Err(reject("window_params must hold dictionaries".to_owned())),
            };
            if a.space.is_hbm() {
                if params.get("transform_indices").is_some() {
                    return Err(reject(format!(
                        "{} is in {} and can have no window",
                        a.name,
                        a.space.name()
                    )));
                }
                return Ok(None);
            }
            if a.space == Space::Semaphore {
                return Err(reject(format!("{} cannot be a semaphore", a.name)));
            }
            window(b, main, params, a, grid, prefetch).map(Some)
        })
        .collect()
}

fn window<'t>(
    b: &mut Builder<'_, 't>,
    main: &Source<'t>,
    params: &Dict<'t>,
    argument: &Argument,
    grid: &[Bound],
    prefetch: &[Argument],
) -> Result<Window> {
    let reject = |message: String| EmulatorError::verify(main.location, main.name, message);
    let name = &argument.name;
    let mut by_element = false;
    let mut double_buffered = true;
    for (key, value) in &params.0 {
        match (*key, value) {
            ("transform_indices" | "window_bounds", _) => {}
            ("pipeline_mode", Attribute::Dialect("tpu.pipeline_mode", mode)) => {
                double_buffered = *mode != "synchronous"
            }
            ("window_kind", Attribute::Dialect("tpu.element_window", pads)) => {
                by_element = true;
                if pads.chars().any(|c| c.is_ascii_digit() && c != '0') {
                    return Err(reject(format!("the window of {name} has padding, which is not supported")));
                }
            }
            (key, _) => return Err(reject(format!("the window of {name} has unknown parameter '{key}'"))),
        }
    }
    let Some(Attribute::Symbol(transform)) = params.get("transform_indices") else {
        return Ok(Window {
            transform: None,
            bounds: argument.shape.clone(),
            by_element: false,
            double_buffered: false,
        });
    };
    let bounds = params.ints("window_bounds").unwrap_or_default();
    if !bounds.iter().map(|&n| usize::try_from(n).ok()).eq(argument.shape.iter().map(|&n| Some(n))) {
        return Err(reject(format!("window_bounds {bounds:?} are not the shape of {name}")));
    }
    let module = b.module;
    let Some(function) = module.functions.iter().find(|f| f.name == *transform) else {
        return Err(reject(format!("there is no transform function @{transform}")));
    };
    let rejected = |message: String| EmulatorError::verify(function.location, function.name, message);
    if function.results.len() != bounds.len() || function.results.iter().any(|t| *t != Type::I32) {
        let message = format!(
            "must return {} block indices of type i32 for {name}, not {}",
            bounds.len(),
            function.results.len()
        );
        return Err(rejected(message));
    }
    let expected = grid.len() + prefetch.len();
    let written = function.body.arguments.iter().map(|a| a.1.clone());
    let wanted = (0..grid.len())
        .map(|_| Type::I32)
        .chain(prefetch.iter().map(|p| Type::MemRef(p.shape.clone(), p.elem, p.space)));
    if !written.eq(wanted) {
        return Err(rejected(format!(
            "must take the {} grid indices and the prefetch operands: {expected} arguments",
            grid.len()
        )));
    }
    let code = b.function(function)?;
    let site = b.site(function.name, function.location);
    let bounds = argument.shape.clone();
    Ok(Window { transform: Some(Transform { function: code, site }), bounds, by_element, double_buffered })
}
