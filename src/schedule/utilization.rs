use std::ops::AddAssign;

use super::ScheduleError;

/// Kinds of issue slots that the compiler counts, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the compiler's names
pub enum Unit {
    /// Cycles that a matrix unit is busy with a multiply.
    MatMul,
    /// Cycles that a matrix unit takes weights.
    MatPush,
    /// Cross-lane unit.
    Xlu,
    /// Vector ALU.
    Valu,
    /// Pops of results.
    VPop,
    /// Transcendental unit.
    Eup,
    VLoad,
    /// Loads of spilled vector registers.
    Fill,
    VStore,
    /// Stores that spill vector registers.
    Spill,
    /// Scalar ALU.
    Salu,
}

/// Number of [`Unit`]s.
pub const UNITS: usize = 11;

impl Unit {
    /// Every unit, in the compiler's order.
    pub const ALL: [Unit; UNITS] = [
        Unit::MatMul,
        Unit::MatPush,
        Unit::Xlu,
        Unit::Valu,
        Unit::VPop,
        Unit::Eup,
        Unit::VLoad,
        Unit::Fill,
        Unit::VStore,
        Unit::Spill,
        Unit::Salu,
    ];

    /// The compiler's name of it.
    pub fn name(self) -> &'static str {
        [
            "MATMUL",
            "MATPUSH",
            "XLU",
            "VALU",
            "VPOP",
            "EUP",
            "VLOAD",
            "VLOAD:FILL",
            "VSTORE",
            "VSTORE:SPILL",
            "SALU",
        ][self as usize]
    }
}

/// Issue slots taken, by unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitCounts(pub(super) [u64; UNITS]);

impl UnitCounts {
    /// Slots of one unit.
    pub fn get(&self, unit: Unit) -> u64 {
        self.0[unit as usize]
    }

    pub(super) fn times(mut self, n: u64) -> Self {
        self.0.iter_mut().for_each(|c| *c *= n);
        self
    }
}

impl AddAssign for UnitCounts {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a += b);
    }
}

/// `*-static-per-bundle-utilization.txt`: what each issue slot takes of each unit, and what a unit can give.
#[derive(Clone, Debug)]
pub(super) struct Utilization {
    pub capacity: UnitCounts,
    pub slots: Vec<UnitCounts>,
}

pub(super) const FILE: &str = "hlo-static-per-bundle-utilization";

impl Utilization {
    /// Reads the text.
    ///
    /// # Errors
    /// The units are not the eleven known ones, or a line holds other than eleven numbers.
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let mut numbers = Vec::new();
        let mut named = false;
        for (number, line) in text.lines().enumerate() {
            let error = |reason: &str| ScheduleError::Listing {
                file: FILE,
                line: number + 1,
                reason: reason.to_owned(),
                text: line.chars().take(200).collect(),
            };
            if line.trim().is_empty() || line.starts_with("==") {
                continue;
            }
            if line.starts_with(|c: char| c.is_ascii_alphabetic()) {
                if !line.split(',').map(str::trim).eq(Unit::ALL.map(Unit::name)) {
                    return Err(error("units differ from those known"));
                }
                named = true;
                continue;
            }
            let mut counts = [0; UNITS];
            let mut words = line.split_whitespace();
            for count in &mut counts {
                *count = words
                    .next()
                    .and_then(|w| w.parse().ok())
                    .ok_or_else(|| error("eleven numbers expected"))?;
            }
            numbers.push(UnitCounts(counts));
        }
        if !named || numbers.len() < 2 {
            return Err(ScheduleError::Listing {
                file: FILE,
                line: 0,
                reason: "no units or no slots".to_owned(),
                text: String::new(),
            });
        }
        Ok(Utilization { capacity: numbers.remove(0), slots: numbers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "== CAPACTIY:\nMATMUL, MATPUSH, XLU, VALU, VPOP, EUP, VLOAD, VLOAD:FILL, VSTORE, VSTORE:SPILL, SALU\n    2     2     2     4     2     1     3     3     2     2     2\n== UTILIZATION:\n";

    #[test]
    fn reads_capacities_and_slots() {
        let read =
            Utilization::parse(&format!("{HEAD}0 0 0 3 0 0 3 0 0 0 2\n2 0 0 0 0 1 0 0 0 0 0\n")).unwrap();
        assert_eq!((read.capacity.get(Unit::Valu), read.slots.len()), (4, 2));
        assert_eq!((read.slots[0].get(Unit::VLoad), read.slots[1].get(Unit::MatMul)), (3, 2));
        assert!(Utilization::parse(&format!("{HEAD}0 0 0\n")).is_err());
        assert!(Utilization::parse(&HEAD.replace("EUP", "NEW")).is_err());
    }
}
