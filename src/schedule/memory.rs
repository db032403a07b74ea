use super::ScheduleError;

/// Bytes of the core's memories that a kernel allocates, windows, scratch and spill slots included. Allocations of
/// regions that exclude each other may share memory, so what is taken at a time can be less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Vector memory.
    pub vmem: u64,
    /// Of that, for spilled vector registers.
    pub vmem_spill: u64,
    /// Scalar memory.
    pub smem: u64,
}

pub(super) const FILE: &str = "post-ra";

impl MemoryUse {
    /// The lines `#allocation3 [shape = ..., space=vmem, size = 0x2000, scoped, tag = ...]` of a text.
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let mut sum = MemoryUse::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| is_allocation(line)) {
            let field = |key: &str| Some(line.split_once(key)?.1.split([',', ' ', ']']).next()?.to_owned());
            let size =
                field(" size = ").and_then(|s| u64::from_str_radix(s.trim_start_matches("0x"), 16).ok());
            let (Some(space), Some(size)) = (field(" space=").or_else(|| field(",space=")), size) else {
                return Err(ScheduleError::Listing {
                    file: FILE,
                    line: number + 1,
                    reason: "allocation without space or size".to_owned(),
                    text: line.chars().take(200).collect(),
                });
            };
            // Addresses that the machine fixes take nothing.
            if line.contains("fixed_abs") {
                continue;
            }
            match space.as_str() {
                "vmem" => {
                    sum.vmem += size;
                    if line.contains("_spill [") {
                        sum.vmem_spill += size;
                    }
                }
                "smem" => sum.smem += size,
                _ => {}
            }
        }
        Ok(sum)
    }
}

/// Whether a line of the compiler's text declares an allocation.
pub(super) fn is_allocation(line: &str) -> bool {
    line.trim_start().starts_with("#allocation") && line.contains("[shape = ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_memory() {
        let text = "\
#allocation0 [shape = 'u32[]', space=smem, size = 0x4, offset = 0x4, fixed_abs, tag = 'core index']
  #allocation3 [shape = 'f32[16,128]{1,0:T(8,128)}', space=vmem, size = 0x2000, scoped, tag = 'scratch operand']
    #allocation24_spill [shape = 'u8[4096]{0}', space=vmem, size = 0x1000, scoped, tag = 'spilled vreg']
  #allocation9 [shape = 's32[8]{0}', space=smem, size = 0x200, scoped, tag = 'prefetched']
  %s1 = smov.u32 [#allocation3]
";
        let expected = MemoryUse { vmem: 0x3000, vmem_spill: 0x1000, smem: 0x200 };
        assert_eq!(MemoryUse::parse(text).unwrap(), expected);
        assert!(MemoryUse::parse("#allocation1 [shape = 'x', size = 0x1]").is_err());
    }
}
