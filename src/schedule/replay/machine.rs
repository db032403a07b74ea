use std::collections::{BTreeMap, HashMap};

use super::super::listing::{Alu, Arg, Compare, Instruction, Listing, Logic, Op, Term, Transfer};
use super::dma::{Flags, GRANULE};
use super::{Copy, DmaModel, Event, Traffic, Trouble};

/// Where an address points, or why a value is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Plain,
    /// Into an operand in HBM.
    Hbm(u32),
    /// Into an operand that lies in VMEM.
    Vmem(u32),
    /// Into the core's own memory.
    Core,
    /// Nothing wrote it.
    Undefined,
    /// Result of an op that is not executed, by number.
    Opaque(u32),
}

#[derive(Clone, Copy, Debug)]
struct Value {
    bits: u32,
    tag: Tag,
    /// When it was written: a phi takes the newest of its operands, for they share a register.
    written: u64,
}

/// The scalar core.
pub(super) struct Machine<'a> {
    listing: &'a Listing,
    model: DmaModel,
    values: Vec<Value>,
    smem: HashMap<u32, Value>,
    prefetch: Vec<Vec<i32>>,
    flags: Flags,
    writes: u64,
    now: f64,
    starts: Vec<bool>,
    pub events: Vec<Event>,
    pub counts: Vec<u64>,
    pub taken: Vec<u64>,
    pub stalls: Vec<f64>,
    pub slots: u64,
    pub traffic: Traffic,
    pub copies: Vec<Copy>,
    /// Ops that are not executed, with times met.
    pub unknown: BTreeMap<String, u64>,
    pub trouble: BTreeMap<Trouble, u64>,
    opaque: Vec<String>,
}

/// How a listing says that an operand lies in no memory.
const NO_MEMORY: &str = "<no memory space>";

impl<'a> Machine<'a> {
    pub(super) fn new(
        listing: &'a Listing,
        starts: &[usize],
        prefetch: &[Vec<i32>],
        model: DmaModel,
    ) -> Self {
        let undefined = Value { bits: 0, tag: Tag::Undefined, written: 0 };
        let mut machine = Machine {
            listing,
            model,
            values: vec![undefined; listing.values],
            smem: HashMap::new(),
            prefetch: vec![Vec::new(); prefetch.len()],
            flags: Flags::default(),
            writes: 0,
            now: 0.0,
            starts: vec![false; listing.bundles.len()],
            events: Vec::new(),
            counts: vec![0; listing.bundles.len()],
            taken: vec![0; listing.bundles.len()],
            stalls: vec![0.0; listing.bundles.len()],
            slots: 0,
            traffic: Traffic::default(),
            copies: Vec::new(),
            unknown: BTreeMap::new(),
            trouble: BTreeMap::new(),
            opaque: Vec::new(),
        };
        for &start in starts {
            machine.starts[start] = true;
        }
        for operand in &listing.operands {
            let words = prefetch.get(operand.index).map(|words| padded(words, &operand.shape));
            let bits = match (operand.space.as_str(), words) {
                ("smem", Some(words)) => {
                    // Above every allocation's address that scalars name.
                    let base = 0xf000_0000 + ((operand.index as u32) << 20);
                    for (i, &word) in words.iter().enumerate() {
                        machine.smem.insert(base + i as u32, plain(word as u32));
                    }
                    base
                }
                // A single word comes in a register.
                (NO_MEMORY, Some(words)) => words.first().map_or(0, |&w| w as u32),
                (_, words) => {
                    if let Some(words) = words {
                        machine.prefetch[operand.index] = words;
                    }
                    0
                }
            };
            let tag = match operand.space.as_str() {
                "hbm" => Tag::Hbm(operand.index as u32),
                "vmem" => Tag::Vmem(operand.index as u32),
                "smem" => Tag::Plain,
                NO_MEMORY if operand.index < prefetch.len() => Tag::Plain,
                _ => Tag::Undefined,
            };
            machine.values[operand.value as usize] = Value { bits, tag, written: 0 };
        }
        machine
    }

    /// Runs to the end of the program, or until it cannot go on.
    pub(super) fn run(&mut self, limit: u64) {
        let bundles = &self.listing.bundles;
        let mut at = 0;
        // Slots left before a taken branch takes effect, and where it goes.
        let mut branch: Option<(usize, usize)> = None;
        while at < bundles.len() {
            if self.starts[at] {
                self.events.push(Event::Region { slot: at, at: self.now });
            }
            self.counts[at] += 1;
            self.slots += 1;
            self.now += 1.0;
            if self.slots > limit {
                self.note(Trouble::Endless);
                break;
            }
            let mut taken = None;
            for instruction in &bundles[at].instructions {
                match self.execute(at, instruction) {
                    Step::On => {}
                    Step::Jump(target) => taken = Some(target),
                    Step::Stop => return,
                }
            }
            at += 1;
            if let Some((left, target)) = branch {
                if taken.is_some() {
                    self.note(Trouble::BranchInDelaySlot { slot: at - 1 });
                }
                branch = if left > 1 { Some((left - 1, target)) } else { None };
                if left == 1 {
                    at = target;
                }
            } else if let Some(target) = taken {
                self.taken[at - 1] += 1;
                branch = Some((self.listing.delay_slots, target));
            }
        }
        let (copies, last) = self.flags.outstanding(self.now);
        if copies > 0 {
            self.note(Trouble::Unawaited);
            self.now = last;
        }
    }

    pub(super) fn now(&self) -> f64 {
        self.now
    }

    fn note(&mut self, trouble: Trouble) {
        *self.trouble.entry(trouble).or_default() += 1;
    }

    fn execute(&mut self, slot: usize, i: &Instruction) -> Step {
        if let Some(predicate) = i.predicate {
            let value = self.values[predicate.value as usize];
            if !known(value) {
                // Where it only makes a value, that is not known either; what it would do is reported, and not done.
                let pure = matches!(
                    i.op,
                    Op::Alu(_)
                        | Op::Compare(..)
                        | Op::Logic(_)
                        | Op::Select
                        | Op::Copy
                        | Op::Pointer
                        | Op::Load
                );
                if pure {
                    self.write(i.result, value);
                } else {
                    self.decides(slot, value);
                }
                return Step::On;
            }
            if (value.bits != 0) == predicate.negated {
                if let Some(other) = predicate.otherwise {
                    self.write(i.result, self.values[other as usize]);
                }
                return Step::On;
            }
        }
        let arg = |machine: &Self, n: usize| i.args.get(n).map_or(plain(0), |a| machine.read(a));
        match &i.op {
            Op::Phi => {
                let newest = i.args.iter().map(|a| self.read(a)).max_by_key(|v| v.written);
                self.write(i.result, newest.unwrap_or(plain(0)));
            }
            Op::Copy | Op::Logic(Logic::Copy) => self.write(i.result, arg(self, 0)),
            Op::Pointer => self.write(i.result, arg_sum(self, i)),
            Op::Alu(alu) => {
                let (a, b) = (arg(self, 0), arg(self, 1));
                self.write(i.result, joined(a, b, calculate(*alu, a.bits, b.bits)));
            }
            Op::Compare(compare, signed) => {
                let (a, b) = (arg(self, 0), arg(self, 1));
                self.write(i.result, joined(a, b, u32::from(holds(*compare, *signed, a.bits, b.bits))));
            }
            Op::Logic(logic) => {
                let (a, b) = (arg(self, 0), arg(self, 1));
                self.write(i.result, decide(*logic, a, b));
            }
            Op::Select => {
                let (p, a, b) = (arg(self, 0), arg(self, 1), arg(self, 2));
                let chosen = if p.bits != 0 { a } else { b };
                self.write(i.result, if known(p) { chosen } else { p });
            }
            Op::Load => {
                let address = arg(self, 0);
                let missing = Value { bits: 0, tag: Tag::Undefined, written: 0 };
                let value = if known(address) {
                    self.smem.get(&address.bits).copied().unwrap_or(missing)
                } else {
                    address
                };
                self.write(i.result, value);
            }
            Op::Store => {
                let (address, value) = (arg(self, 0), arg(self, 1));
                if self.decides(slot, address) {
                    self.smem.insert(address.bits, value);
                }
            }
            Op::Dma(kind) => self.copy(slot, *kind, i),
            Op::Wait => {
                let (flag, least) = (arg(self, 0), arg(self, 1));
                if self.decides(slot, flag) && self.decides(slot, least) {
                    match self.flags.wait(self.now, flag.bits, i64::from(least.bits as i32)) {
                        Some(until) => {
                            if until > self.now {
                                self.events.push(Event::Wait { slot, from: self.now, until });
                            }
                            self.stalls[slot] += until - self.now;
                            self.now = until;
                        }
                        None => {
                            self.note(Trouble::Deadlock { slot });
                            return Step::Stop;
                        }
                    }
                }
            }
            Op::FlagAdd | Op::FlagSet => {
                let (flag, amount) = (arg(self, 0), arg(self, 1));
                if self.decides(slot, flag) && self.decides(slot, amount) {
                    let amount = i64::from(amount.bits as i32);
                    if i.op == Op::FlagAdd {
                        self.flags.add(self.now, flag.bits, amount);
                    } else {
                        self.flags.set(self.now, flag.bits, amount);
                    }
                }
            }
            Op::FlagRead => {
                let flag = arg(self, 0);
                if self.decides(slot, flag) {
                    let count = self.flags.read(self.now, flag.bits);
                    self.write(i.result, plain(count as u32));
                }
            }
            Op::Branch(target) => return Step::Jump(*target),
            Op::Halt => {
                self.note(Trouble::Halt { slot });
                return Step::Stop;
            }
            Op::Operand | Op::Nothing => {}
            Op::Unknown(name) => {
                *self.unknown.entry(name.clone()).or_default() += 1;
                let number = self.opaque.iter().position(|n| n == name).unwrap_or_else(|| {
                    self.opaque.push(name.clone());
                    self.opaque.len() - 1
                });
                self.write(i.result, Value { bits: 0, tag: Tag::Opaque(number as u32), written: 0 });
            }
        }
        Step::On
    }

    fn copy(&mut self, slot: usize, kind: Transfer, i: &Instruction) {
        let find = |label: &str| i.labelled(label);
        let labels = match kind {
            Transfer::General => ["src", "dst"],
            Transfer::ToSmem if find("hbm").is_some() => ["hbm", "smem"],
            Transfer::ToSmem => ["vmem", "smem"],
            Transfer::In => ["hbm", "vmem"],
            Transfer::Out => ["vmem", "hbm"],
            Transfer::Local => ["src", "dst"],
        };
        let flag = find("dst_syncflagno").or_else(|| find("syncflagno"));
        let (Some(size), Some(flag)) = (find("size_in_granules"), flag) else {
            return self.note(Trouble::CopyForm { slot });
        };
        let (size, flag) = (self.read(size), self.read(flag));
        if !self.decides(slot, size) || !self.decides(slot, flag) {
            return;
        }
        let ends = labels.map(|l| find(l).map(|a| (self.read(a), a.spill)));
        if ends.iter().flatten().any(|(_, spill)| *spill) {
            self.note(Trouble::SpillToHbm { slot });
        }
        let end_hbm = |n: usize| ends[n].is_some_and(|(v, _)| matches!(v.tag, Tag::Hbm(_)));
        let (from_hbm, to_hbm) = match kind {
            Transfer::ToSmem => (labels[0] == "hbm", false),
            Transfer::In => (true, false),
            Transfer::Out => (false, true),
            Transfer::Local => (false, false),
            Transfer::General => (end_hbm(0), end_hbm(1)),
        };
        let bytes = u64::from(size.bits) * GRANULE;
        let direction = match (from_hbm, to_hbm) {
            (true, _) => &mut self.traffic.into_core,
            (false, true) => &mut self.traffic.to_hbm,
            (false, false) => &mut self.traffic.local,
        };
        direction.copies += 1;
        direction.bytes += bytes;
        let (begin, end, done) =
            self.flags.start(&self.model, self.now, flag.bits, size.bits, from_hbm || to_hbm);
        self.copies.push(Copy {
            slot,
            issued: self.now,
            begin,
            end,
            done,
            bytes,
            into_core: from_hbm,
            to_hbm,
        });
        if kind == Transfer::ToSmem || kind == Transfer::General {
            self.fill_smem(ends[0].map(|e| e.0), ends[1].map(|e| e.0), size.bits);
        }
    }

    /// Scalar-prefetch operands come by copy; what else comes to SMEM is not known.
    fn fill_smem(&mut self, from: Option<Value>, to: Option<Value>, granules: u32) {
        let (Some(from), Some(to)) = (from, to) else { return };
        let (Tag::Hbm(index) | Tag::Vmem(index)) = from.tag else { return };
        let Some(words) = self.prefetch.get(index as usize) else { return };
        let start = from.bits as usize * 8;
        for at in 0..granules as usize * 8 {
            if let Some(&word) = words.get(start + at) {
                self.smem.insert(to.bits.wrapping_add(at as u32), plain(word as u32));
            }
        }
    }

    fn read(&self, arg: &Arg) -> Value {
        let mut terms = arg.terms.iter().map(|t| match *t {
            Term::Value(v) => self.values[v as usize],
            Term::Word(bits) => Value { bits, tag: Tag::Plain, written: 0 },
        });
        let first = terms.next().unwrap_or(plain(0));
        terms.fold(first, |a, b| joined(a, b, a.bits.wrapping_add(b.bits)))
    }

    fn write(&mut self, result: Option<u32>, value: Value) {
        if let Some(result) = result {
            self.writes += 1;
            self.values[result as usize] = Value { written: self.writes, ..value };
        }
    }

    /// Whether a value that decides something is known; notes if not.
    fn decides(&mut self, slot: usize, value: Value) -> bool {
        match value.tag {
            Tag::Undefined => self.note(Trouble::Undefined { slot }),
            Tag::Opaque(n) => self.note(Trouble::DependsOn { slot, op: self.opaque[n as usize].clone() }),
            _ => return true,
        }
        false
    }
}

enum Step {
    On,
    Jump(usize),
    Stop,
}

fn plain(bits: u32) -> Value {
    Value { bits, tag: Tag::Plain, written: 0 }
}

fn known(value: Value) -> bool {
    !matches!(value.tag, Tag::Undefined | Tag::Opaque(_))
}

/// A result of two values: unknown if either is, an address if either is.
fn joined(a: Value, b: Value, bits: u32) -> Value {
    let tag = match (a.tag, b.tag) {
        (Tag::Opaque(n), _) | (_, Tag::Opaque(n)) => Tag::Opaque(n),
        (Tag::Undefined, _) | (_, Tag::Undefined) => Tag::Undefined,
        (Tag::Plain, tag) | (tag, _) => tag,
    };
    Value { bits, tag, written: 0 }
}

/// A pointer's operands, summed.
fn arg_sum(machine: &Machine<'_>, i: &Instruction) -> Value {
    let sum = i.args.iter().map(|a| machine.read(a)).reduce(|a, b| joined(a, b, a.bits.wrapping_add(b.bits)));
    let sum = sum.unwrap_or(plain(0));
    if sum.tag == Tag::Plain { Value { tag: Tag::Core, ..sum } } else { sum }
}

fn calculate(alu: Alu, a: u32, b: u32) -> u32 {
    match alu {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        Alu::MulHigh => ((u64::from(a) * u64::from(b)) >> 32) as u32,
        Alu::And => a & b,
        Alu::Or => a | b,
        Alu::Xor => a ^ b,
        Alu::ShiftLeft => a.checked_shl(b).unwrap_or(0),
        Alu::ShiftRight => a.checked_shr(b).unwrap_or(0),
        Alu::ShiftRightSigned => ((a as i32) >> b.min(31)) as u32,
        Alu::MinSigned => (a as i32).min(b as i32) as u32,
        Alu::MaxSigned => (a as i32).max(b as i32) as u32,
        Alu::MinUnsigned => a.min(b),
        Alu::MaxUnsigned => a.max(b),
    }
}

fn holds(compare: Compare, signed: bool, a: u32, b: u32) -> bool {
    let order = if signed { (a as i32).cmp(&(b as i32)) } else { a.cmp(&b) };
    match compare {
        Compare::Eq => order.is_eq(),
        Compare::Ne => order.is_ne(),
        Compare::Lt => order.is_lt(),
        Compare::Le => order.is_le(),
        Compare::Gt => order.is_gt(),
        Compare::Ge => order.is_ge(),
    }
}

/// Logic with unknown operands: known where the other one settles it.
fn decide(logic: Logic, a: Value, b: Value) -> Value {
    let (x, y) = (a.bits != 0, b.bits != 0);
    let settled = |v: Value, by: bool| known(v) && (v.bits != 0) == by;
    let either = |by: bool| settled(a, by) || settled(b, by);
    match logic {
        Logic::And if either(false) => plain(0),
        Logic::Nand if either(false) => plain(1),
        Logic::Or if either(true) => plain(1),
        Logic::Nor if either(true) => plain(0),
        Logic::And => joined(a, b, u32::from(x && y)),
        Logic::Nand => joined(a, b, u32::from(!(x && y))),
        Logic::Or => joined(a, b, u32::from(x || y)),
        Logic::Nor => joined(a, b, u32::from(!(x || y))),
        Logic::Xor => joined(a, b, u32::from(x ^ y)),
        Logic::Not => Value { bits: u32::from(!x), ..a },
        Logic::Copy => a,
    }
}

/// Words of an operand as they lie in memory: a matrix has its columns padded to 128, and lies in tiles of 8 × 128
/// if it has more.
fn padded(words: &[i32], shape: &str) -> Vec<i32> {
    let dims = shape.split_once('[').and_then(|(_, d)| d.strip_suffix(']'));
    let dims: Vec<usize> =
        dims.unwrap_or_default().split(',').filter_map(|d| d.trim().parse().ok()).collect();
    let [rows, columns] = dims[..] else { return words.to_vec() };
    if rows * columns != words.len() {
        return words.to_vec();
    }
    let wide = columns.next_multiple_of(128);
    let tiled = columns > 128;
    let tall = if tiled { rows.next_multiple_of(8) } else { rows };
    let mut out = vec![0; tall * wide];
    for row in 0..rows {
        for column in 0..columns {
            let at = if tiled {
                ((row / 8) * (wide / 128) + column / 128) * 1024 + (row % 8) * 128 + column % 128
            } else {
                row * wide + column
            };
            out[at] = words[row * columns + column];
        }
    }
    out
}
