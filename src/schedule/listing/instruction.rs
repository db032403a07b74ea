use super::names::{Names, Operand};

/// Arithmetic on 32-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Alu {
    Add,
    Sub,
    Mul,
    /// Upper word of the unsigned product.
    MulHigh,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
    ShiftRightSigned,
    MinSigned,
    MaxSigned,
    MinUnsigned,
    MaxUnsigned,
}

/// Comparison of 32-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Logic on predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Logic {
    And,
    Or,
    Xor,
    Nand,
    Nor,
    Not,
    Copy,
}

/// Ends of a copy as its op names them; `dma.general` names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Transfer {
    ToSmem,
    In,
    Out,
    Local,
    General,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Op {
    Phi,
    Alu(Alu),
    Compare(Compare, bool),
    Logic(Logic),
    Select,
    Copy,
    /// Address in HBM or VMEM: a copy that says which.
    Pointer,
    Load,
    Store,
    Operand,
    Dma(Transfer),
    Wait,
    FlagAdd,
    FlagSet,
    FlagRead,
    Branch(usize),
    Halt,
    /// Known, without effect on the scalar side.
    Nothing,
    Unknown(String),
}

/// Part of an operand: operands are sums of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Term {
    Value(u32),
    Word(u32),
}

/// An operand, with its label if the listing gives one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(in super::super) struct Arg {
    pub label: String,
    pub terms: Vec<Term>,
    /// Names a spill slot.
    pub spill: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Predicate {
    pub value: u32,
    pub negated: bool,
    /// What the result is where the predicate does not hold, `(!%p1, %s2)`; without, it stays what it was.
    pub otherwise: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Instruction {
    pub op: Op,
    pub result: Option<u32>,
    pub predicate: Option<Predicate>,
    pub args: Vec<Arg>,
}

impl Instruction {
    pub(super) fn reads(&self, value: u32) -> bool {
        self.predicate.is_some_and(|p| p.value == value || p.otherwise == Some(value))
            || self.args.iter().any(|a| a.terms.contains(&Term::Value(value)))
    }

    /// The operand labelled `label`.
    pub(in super::super) fn labelled(&self, label: &str) -> Option<&Arg> {
        self.args.iter().find(|a| a.label == label)
    }
}

/// One instruction: its scalar side, and what its vector side counts for.
#[derive(Default)]
pub(super) struct Parsed {
    pub scalar: Option<Instruction>,
    pub exp2: bool,
    pub matmul: bool,
}

/// Reads `%r = op (pred), args`.
pub(super) fn parse(text: &str, names: &mut Names, operands: &mut Vec<Operand>) -> Result<Parsed, String> {
    let (result, rest) = match text.split_once(" = ") {
        Some((result, rest)) if result.starts_with('%') && !result.contains(' ') => {
            (Some(result), rest.trim())
        }
        _ => (None, text),
    };
    let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let scalar_result = result.is_some_and(|r| r.starts_with("%s") || r.starts_with("%p"));
    if name.starts_with('v') && !name.starts_with("vsync") && !name.starts_with("vwait") && !scalar_result {
        return Ok(Parsed {
            scalar: None,
            exp2: name.starts_with("vexp2") || name.starts_with("vpow2"),
            matmul: name.starts_with("vmatmul") || name.starts_with("vmatpush.lhs"),
        });
    }
    let op = op(name, rest);
    let mut rest = rest.to_owned();
    let mut predicate = None;
    if let Some((start, end)) = predicate_at(&rest) {
        let inner = &rest[start + 1..end - 1];
        let negated = inner.starts_with('!');
        let (value, otherwise) = inner.split_once(',').map_or((inner, None), |(p, o)| (p, Some(o.trim())));
        let otherwise =
            otherwise.map(|o| o.strip_prefix('%').ok_or_else(|| format!("operand {o:?}"))).transpose()?;
        predicate = Some(Predicate {
            value: names.value(value.trim_start_matches(['!', '%'])),
            negated,
            otherwise: otherwise.map(|o| names.value(o)),
        });
        rest.replace_range(start..end, "");
    }
    // A store without a predicate has no comma between address and value.
    if op == Op::Store
        && let Some(end) = rest.find(']')
        && !rest[end + 1..].trim_start().starts_with(',')
    {
        rest.insert(end + 1, ',');
    }
    let result_id = result.map(|r| names.value(&r[1..]));
    let args = match op {
        Op::Operand => {
            operands.push(operand(result_id, text, &rest)?);
            Vec::new()
        }
        Op::Branch(_) | Op::Halt | Op::Nothing | Op::Unknown(_) => Vec::new(),
        _ => args(&rest, names)?,
    };
    if let Some(least) = least_args(&op)
        && args.len() < least
    {
        return Err(format!("{name} with {} operands", args.len()));
    }
    Ok(Parsed { scalar: Some(Instruction { op, result: result_id, predicate, args }), ..Parsed::default() })
}

fn least_args(op: &Op) -> Option<usize> {
    Some(match op {
        Op::Select => 3,
        Op::Alu(_) | Op::Compare(..) | Op::Store | Op::Wait | Op::FlagAdd | Op::FlagSet | Op::Phi => 2,
        Op::Logic(Logic::Not | Logic::Copy) | Op::Copy | Op::Pointer | Op::Load | Op::FlagRead => 1,
        Op::Logic(_) => 2,
        _ => return None,
    })
}

/// Byte range of a predicate `(%p3)` or `(!%p3)`.
fn predicate_at(text: &str) -> Option<(usize, usize)> {
    text.match_indices('(').find_map(|(at, _)| {
        let inner = &text[at + 1..];
        let name = inner.strip_prefix('!').unwrap_or(inner);
        if !name.starts_with("%p") {
            return None;
        }
        Some((at, at + 1 + inner.find(')')? + 1))
    })
}

fn op(name: &str, rest: &str) -> Op {
    let unknown = || Op::Unknown(name.to_owned());
    let signed = !name.contains(".u32");
    match name {
        "sphi" | "pphi" => Op::Phi,
        "sadd.s32" | "sadd.u32" | "scalar_lea.smem" | "scalar_lea.sflag" => Op::Alu(Alu::Add),
        "scalar_lea.hbm" | "scalar_lea.vmem" => Op::Pointer,
        "ssub.s32" | "ssub.u32" => Op::Alu(Alu::Sub),
        "smul.u32" | "smul.s32" => Op::Alu(Alu::Mul),
        "smulhi.u32" => Op::Alu(Alu::MulHigh),
        "sand.u32" => Op::Alu(Alu::And),
        "sor.u32" => Op::Alu(Alu::Or),
        "sxor.u32" => Op::Alu(Alu::Xor),
        "sshll.u32" => Op::Alu(Alu::ShiftLeft),
        "sshrl.u32" => Op::Alu(Alu::ShiftRight),
        "sshra.s32" => Op::Alu(Alu::ShiftRightSigned),
        "smin.s32" => Op::Alu(Alu::MinSigned),
        "smax.s32" => Op::Alu(Alu::MaxSigned),
        "smin.u32" => Op::Alu(Alu::MinUnsigned),
        "smax.u32" => Op::Alu(Alu::MaxUnsigned),
        "pand" => Op::Logic(Logic::And),
        "por" => Op::Logic(Logic::Or),
        "pxor" => Op::Logic(Logic::Xor),
        "pnand" => Op::Logic(Logic::Nand),
        "pnor" => Op::Logic(Logic::Nor),
        "pneg" => Op::Logic(Logic::Not),
        "pmov" => Op::Logic(Logic::Copy),
        "scalar_select" => Op::Select,
        "smov.u32" => Op::Copy,
        "int_to_ptr.vmem" | "int_to_ptr.hbm" | "int_to_ptr.smem" => Op::Pointer,
        "sld" => Op::Load,
        "sst" => Op::Store,
        "dma.done.wait" => Op::Wait,
        "vsyncadd" => Op::FlagAdd,
        "vsyncpa" => Op::FlagSet,
        "vsyncmov" => Op::FlagRead,
        // What `vsyncmov` pushed: the count of a semaphore.
        "spop.sfrf" => Op::Copy,
        "shalt.err" => Op::Halt,
        "sfence" => Op::Nothing,
        "sbr.rel" => {
            let target = rest.split_once("bundleno = ").map(|(_, t)| t);
            let target = target.and_then(|t| t.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
            target.map_or_else(unknown, Op::Branch)
        }
        _ if name.starts_with("inlined_call_operand.") => Op::Operand,
        _ if name.starts_with("scmp.") => match name.split('.').nth(1) {
            Some("eq") => Op::Compare(Compare::Eq, signed),
            Some("ne") => Op::Compare(Compare::Ne, signed),
            Some("lt") => Op::Compare(Compare::Lt, signed),
            Some("le") => Op::Compare(Compare::Le, signed),
            Some("gt") => Op::Compare(Compare::Gt, signed),
            Some("ge") => Op::Compare(Compare::Ge, signed),
            _ => unknown(),
        },
        _ => match name.strip_prefix("dma.") {
            Some("general") => Op::Dma(Transfer::General),
            Some("hbm_to_smem" | "vmem_to_smem") => Op::Dma(Transfer::ToSmem),
            Some("hbm_to_vmem") => Op::Dma(Transfer::In),
            Some("vmem_to_hbm" | "smem_to_hbm") => Op::Dma(Transfer::Out),
            Some("vmem_to_vmem" | "smem_to_vmem" | "smem_to_smem") => Op::Dma(Transfer::Local),
            _ => unknown(),
        },
    }
}

/// `[shape: s32[8], index: 0, kind: input, ...]`.
fn operand(value: Option<u32>, text: &str, rest: &str) -> Result<Operand, String> {
    let field = |key: &str| rest.split_once(key).map(|(_, r)| r);
    let index = field("index: ").and_then(|r| r.split(',').next()?.trim().parse().ok());
    let shape = field("shape: ").and_then(|r| Some(r[..=r.find(']')?].to_owned()));
    let space =
        text.split_once("inlined_call_operand.").and_then(|(_, t)| Some(t.split_once(" [")?.0.to_owned()));
    let space = space.unwrap_or_default();
    match (value, index, shape) {
        (Some(value), Some(index), Some(shape)) => Ok(Operand { value, index, space, shape }),
        _ => Err("operand without shape or index".to_owned()),
    }
}

fn args(text: &str, names: &mut Names) -> Result<Vec<Arg>, String> {
    let mut text = text.to_owned();
    // Annotations: [thread:$0], [resolvable:$true].
    while let Some(at) = text.find(":$") {
        let start = text[..at].rfind('[').ok_or("unbalanced annotation")?;
        let end = text[at..].find(']').ok_or("unbalanced annotation")? + at;
        text.replace_range(start..=end, "");
    }
    let mut out = Vec::new();
    for piece in text.split(',') {
        let mut piece = piece.trim();
        let mut arg = Arg::default();
        if let Some((label, rest)) = piece.split_once('=')
            && !label.contains(['[', '%', ' '])
        {
            arg.label = label.to_owned();
            piece = rest.trim();
        }
        // `1024 [#allocation3]`: the allocation that an address points into.
        if !piece.starts_with('[')
            && let Some((before, _)) = piece.split_once(" [")
        {
            piece = before;
        }
        let cleaned = piece.replace("smem:", "").replace(['[', ']'], "");
        for word in cleaned.split('+').map(str::trim).filter(|w| !w.is_empty()) {
            arg.terms.push(term(word, names, &mut arg.spill)?);
        }
        if !arg.terms.is_empty() {
            out.push(arg);
        }
    }
    Ok(out)
}

fn term(word: &str, names: &mut Names, spill: &mut bool) -> Result<Term, String> {
    if let Some(value) = word.strip_prefix('%') {
        return Ok(Term::Value(names.value(value)));
    }
    if let Some(allocation) = word.strip_prefix('#') {
        *spill |= allocation.ends_with("_spill");
        return Ok(Term::Word(names.allocation(allocation)));
    }
    let digits = word.trim_start_matches('$');
    let number = match (digits.strip_prefix("0x"), digits.strip_prefix("-0x")) {
        (Some(hex), _) => i64::from_str_radix(hex, 16).ok(),
        (_, Some(hex)) => i64::from_str_radix(hex, 16).ok().map(|n| -n),
        _ => digits.parse::<i64>().ok(),
    };
    // A scalar register holds the bits of an f32 too.
    let bits = || digits.parse::<f32>().ok().map(f32::to_bits);
    number.map(|n| n as u32).or_else(bits).map(Term::Word).ok_or_else(|| format!("operand {word:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str) -> Instruction {
        parse(text, &mut Names::default(), &mut Vec::new()).unwrap().scalar.unwrap()
    }

    #[test]
    fn reads_predicates_wherever_they_stand() {
        let load = scalar("%s104168_s23 = sld [smem:[#allocation9 + %s841_s12]] (!%p104160_p3)");
        assert_eq!(load.op, Op::Load);
        assert!(load.predicate.unwrap().negated);
        assert_eq!(load.args[0].terms.len(), 2);
        let store = scalar("%92296 = sst [smem:[#allocation17 + $0x1]] (%p103542_p5), %s103431_s30");
        assert!(!store.predicate.unwrap().negated);
        assert_eq!(store.args[0].terms[1], Term::Word(1));
        let moved = scalar("%s236302_s17 = smov.u32 (!%p249_p2, %s248_s17), %s104149_s15");
        assert!(moved.predicate.unwrap().otherwise.is_some() && moved.args.len() == 1);
        let bare = scalar("%203960 = sst [smem:[#allocation989_spill]] %s194943_s2");
        assert_eq!((bare.args.len(), bare.args[0].spill), (2, true));
        let branch = scalar("%862 = sbr.rel (!%p859_p6) target bundleno = 377 (0x179), region = 363");
        assert_eq!(branch.op, Op::Branch(377));
        assert!(branch.predicate.unwrap().negated);
    }

    #[test]
    fn reads_reals_as_their_bits() {
        let select = scalar("%s1_s2 = scalar_select predicate=%p248_p3, on_true=nan, on_false=1.0");
        assert_eq!(select.labelled("on_false").unwrap().terms, [Term::Word(1f32.to_bits())]);
        assert_eq!(select.labelled("on_true").unwrap().terms, [Term::Word(f32::NAN.to_bits())]);
    }

    #[test]
    fn reads_copies_by_label() {
        let copy = scalar(
            "%92302 = dma.hbm_to_vmem [thread:$0]  (%p1_p5), hbm=%s179_s8, size_in_granules=512, vmem=%s182_s7, dst_syncflagno=[#allocation4 + $0x1]",
        );
        assert_eq!(copy.op, Op::Dma(Transfer::In));
        assert_eq!(copy.labelled("size_in_granules").unwrap().terms, [Term::Word(512)]);
        assert_eq!(copy.labelled("dst_syncflagno").unwrap().terms.len(), 2);
        let pointer = scalar("%s154_s21 = int_to_ptr.vmem [resolvable:$true] %s153_s21");
        assert_eq!((pointer.op, pointer.args.len()), (Op::Pointer, 1));
    }

    #[test]
    fn an_unknown_scalar_op_keeps_its_name() {
        assert_eq!(scalar("%s1_s2 = sfoo.s32 %s0_s1, 3").op, Op::Unknown("sfoo.s32".to_owned()));
        assert_eq!(scalar("%s1_s2 = vpop.x 3").op, Op::Unknown("vpop.x".to_owned()));
    }
}
