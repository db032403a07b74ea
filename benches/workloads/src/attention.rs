use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tpu_rpa::batch::{BatchError, Planner, Tiling};
use tpu_rpa::kernels::WorkloadClass;
use tpu_rpa::spec::{AttentionSpec, DType};

use crate::{Problem, Segments};

/// Attention of one layer over a batch of groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// What it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Query heads.
    pub q_heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// f32 or bf16.
    pub dtype: DType,
    /// Tokens of a page.
    pub page_size: usize,
    /// Factor on scores; by default that of the head size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// Soft cap of scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_cap: Option<f32>,
    /// Keys that a query may look back on, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<u32>,
    /// Pages of the pool; by default as many as prefixes take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_pages: Option<usize>,
    /// What its block sizes are tuned for; by default what the library's rule says of the batch.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_class",
        deserialize_with = "read_class"
    )]
    pub class: Option<WorkloadClass>,
    /// Groups in the order of the token stream.
    pub groups: Vec<GroupShape>,
}

/// Groups of a shape: cached tokens, and new ones that see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupShape {
    /// How many of them follow each other.
    #[serde(default = "one")]
    pub repeat: usize,
    /// Cached tokens.
    #[serde(default)]
    pub prefix: usize,
    /// New tokens of a lead, which the segments behind it see whole; 0: no lead.
    #[serde(default)]
    pub lead: usize,
    /// Groups with the same word here have their prefixes in the same pages; without one, each in its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<String>,
    /// New tokens behind the lead.
    #[serde(default)]
    pub segments: Vec<Segments>,
}

fn one() -> usize {
    1
}

fn write_class<S: Serializer>(class: &Option<WorkloadClass>, serializer: S) -> Result<S::Ok, S::Error> {
    class.map(WorkloadClass::name).serialize(serializer)
}

fn read_class<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WorkloadClass>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let class = WorkloadClass::ALL.into_iter().find(|class| class.name() == name);
    class.map(Some).ok_or_else(|| {
        let names = WorkloadClass::ALL.map(WorkloadClass::name);
        serde::de::Error::custom(format!("class is {name:?}; it must be one of {}", names.join(", ")))
    })
}

impl GroupShape {
    /// Segments of each group, the lead among them, in order.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        let lead = (self.lead > 0).then_some(self.lead);
        lead.into_iter().chain(self.segments.iter().flat_map(|s| std::iter::repeat_n(s.tokens, s.count)))
    }

    /// New tokens of each group.
    pub fn tokens(&self) -> usize {
        self.segments.iter().fold(self.lead, |sum, s| sum.saturating_add(s.count.saturating_mul(s.tokens)))
    }
}

impl Attention {
    /// Most entries of all groups' page tables together.
    pub const MAX_PAGE_ENTRIES: usize = 1 << 26;

    /// Heads, dims and type.
    ///
    /// # Errors
    /// Names the field, the value and the bound.
    pub fn spec(&self) -> Result<AttentionSpec, Problem> {
        let mut spec = AttentionSpec::builder(self.q_heads, self.kv_heads, self.head_dim)
            .page_size(self.page_size)
            .dtype(self.dtype);
        if let Some(scale) = self.scale {
            spec = spec.scale(scale);
        }
        if let Some(cap) = self.soft_cap {
            spec = spec.soft_cap(cap);
        }
        if let Some(window) = self.sliding_window {
            spec = spec.sliding_window(window);
        }
        Ok(spec.build()?)
    }

    /// A planner for its pool.
    ///
    /// # Errors
    /// When the tiles do not suit its page size.
    pub fn planner(&self, tiling: impl Into<Tiling>) -> Result<Planner, BatchError> {
        let planner = Planner::new(self.page_size, self.pool_pages(), tiling)?;
        Ok(planner.with_sliding_window(self.sliding_window))
    }

    /// Pages of the pool: those asked for, or as many as prefixes take.
    pub fn pool_pages(&self) -> usize {
        self.pool_pages.unwrap_or_else(|| self.used_pages().max(1))
    }

    /// New tokens of the batch.
    pub fn tokens(&self) -> usize {
        self.groups.iter().fold(0, |sum, g| sum.saturating_add(g.repeat.saturating_mul(g.tokens())))
    }

    /// Cached tokens of each word that groups name pages by: those of its longest prefix.
    pub fn named_prefixes(&self) -> HashMap<&str, usize> {
        let mut longest = HashMap::new();
        for group in &self.groups {
            if let Some(name) = &group.pages {
                let prefix = longest.entry(name.as_str()).or_insert(0);
                *prefix = group.prefix.max(*prefix);
            }
        }
        longest
    }

    pub(crate) fn pages_of(&self, prefix: usize) -> usize {
        prefix.div_ceil(self.page_size)
    }

    /// Pages that prefixes take.
    pub fn used_pages(&self) -> usize {
        let named = self.named_prefixes().into_values().map(|prefix| (1, prefix));
        let own = self.groups.iter().filter(|g| g.pages.is_none()).map(|g| (g.repeat, g.prefix));
        own.chain(named).fold(0, |sum: usize, (times, prefix)| {
            sum.saturating_add(times.saturating_mul(self.pages_of(prefix)))
        })
    }

    /// Holds every number against its bounds; allocates nothing that grows with them.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        self.spec()?;
        let most = Planner::MAX_TOKENS;
        if self.groups.is_empty() {
            return Err(Problem::value("groups", "empty", "at least one group"));
        }
        let (mut tokens, mut entries) = (0usize, 0usize);
        for (i, group) in self.groups.iter().enumerate() {
            group.check(i)?;
            let at = |field| format!("groups[{i}].{field}");
            let new = group.tokens();
            tokens = tokens.saturating_add(group.repeat.saturating_mul(new));
            if tokens > most {
                let value = format!("{} new tokens with all before", count(tokens));
                return Err(Problem::value(at("segments"), value, format!("at most {most}")));
            }
            if group.prefix > i32::MAX as usize - new {
                let bound = format!("at most {} with {new} new tokens", i32::MAX as usize - new);
                return Err(Problem::value(at("prefix"), group.prefix, bound));
            }
            let pages = group.repeat.saturating_mul(self.pages_of(group.prefix));
            entries = entries.saturating_add(pages);
            if entries > Self::MAX_PAGE_ENTRIES {
                let value = format!("{}, {} pages with all before", group.prefix, count(entries));
                let bound = format!("such that all groups name at most {} pages", Self::MAX_PAGE_ENTRIES);
                return Err(Problem::value(at("prefix"), value, bound));
            }
        }
        let (needed, pool) = (self.used_pages().max(1), self.pool_pages());
        let slots = i32::MAX as usize / self.page_size;
        if pool < needed || pool > slots {
            let bound = format!("from {needed} that prefixes take to {slots}");
            return Err(Problem::value("pool_pages", pool, bound));
        }
        Ok(())
    }
}

impl GroupShape {
    fn check(&self, index: usize) -> Result<(), Problem> {
        let at = |field: &str| format!("groups[{index}].{field}");
        if self.repeat == 0 {
            return Err(Problem::value(at("repeat"), 0, "at least 1"));
        }
        if self.lead == 0 && self.segments.is_empty() {
            return Err(Problem::value(
                at("segments"),
                "empty",
                "at least one segment where there is no lead",
            ));
        }
        for (s, segments) in self.segments.iter().enumerate() {
            for (field, value) in [("count", segments.count), ("tokens", segments.tokens)] {
                if value == 0 {
                    return Err(Problem::value(at(&format!("segments[{s}].{field}")), 0, "at least 1"));
                }
            }
        }
        Ok(())
    }
}

/// A sum that may have been cut off.
fn count(n: usize) -> String {
    if n == usize::MAX { "too many to count".to_owned() } else { n.to_string() }
}
