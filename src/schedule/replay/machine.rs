use std::collections::{BTreeMap, HashMap};

use super::super::listing::{Arg, Instruction, Listing, Logic, Op, Term, Transfer};
use super::dma::{DmaModel, Flags, GRANULE};
use super::operand::padded;
use super::record::{Copy, Event, Traffic, Trouble};
use super::value::{Tag, Value, calculate, decide, holds, joined, known, plain};

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

/// A pointer's operands, summed.
fn arg_sum(machine: &Machine<'_>, i: &Instruction) -> Value {
    let sum = i.args.iter().map(|a| machine.read(a)).reduce(|a, b| joined(a, b, a.bits.wrapping_add(b.bits)));
    let sum = sum.unwrap_or(plain(0));
    if sum.tag == Tag::Plain { Value { tag: Tag::Core, ..sum } } else { sum }
}
