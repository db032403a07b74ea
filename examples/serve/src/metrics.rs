use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tpu_rpa::runtime::CacheStats;
use tpu_rpa::score::{ForwardPass, Scorer};

use engine::PassReport;

/// What `/metrics` tells, in the OpenMetrics text format.
pub struct Metrics {
    registry: Registry,
    requests: Family<Outcome, Counter>,
    request_time: Histogram,
    items: Counter,
    prompt_tokens: Counter,
    pending: Gauge,
    passes: Counter,
    pass_time: Histogram,
    cancelled: Counter,
    prefix_lookups: Counter,
    prefix_hits: Counter,
    prefix_tokens: Counter,
    prefix_hit_tokens: Counter,
    prefix_evictions: Counter,
    kv_pages: Family<PageState, Gauge>,
    compiled: Counter,
    loaded: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    status: u16,
    /// The error's code, empty without one.
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PageState {
    state: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 17));
        let mut metrics = Metrics {
            registry: Registry::with_prefix("tpu_rpa"),
            requests: Family::default(),
            request_time: seconds(),
            items: Counter::default(),
            prompt_tokens: Counter::default(),
            pending: Gauge::default(),
            passes: Counter::default(),
            pass_time: seconds(),
            cancelled: Counter::default(),
            prefix_lookups: Counter::default(),
            prefix_hits: Counter::default(),
            prefix_tokens: Counter::default(),
            prefix_hit_tokens: Counter::default(),
            prefix_evictions: Counter::default(),
            kv_pages: Family::default(),
            compiled: Counter::default(),
            loaded: Counter::default(),
        };
        let m = &mut metrics;
        let r = &mut m.registry;
        r.register("requests", "Requests to /v1/score by status and error code", m.requests.clone());
        let help = "Time from a request's header to its response";
        r.register_with_unit("request_duration", help, Unit::Seconds, m.request_time.clone());
        r.register("items", "Items scored", m.items.clone());
        r.register("prompt_tokens", "Tokens of answered requests, as given", m.prompt_tokens.clone());
        r.register("pending_requests", "Requests that wait or are under way", m.pending.clone());
        r.register("passes", "Forward passes", m.passes.clone());
        let help = "Time of a forward pass, planning and compiling included";
        r.register_with_unit("pass_duration", help, Unit::Seconds, m.pass_time.clone());
        r.register("cancelled_requests", "Requests whose client left", m.cancelled.clone());
        r.register("prefix_lookups", "Queries looked up in the prefix cache", m.prefix_lookups.clone());
        r.register("prefix_hits", "Lookups that reused a token or more", m.prefix_hits.clone());
        r.register("prefix_tokens", "Tokens of the queries looked up", m.prefix_tokens.clone());
        r.register("prefix_hit_tokens", "Tokens that were reused", m.prefix_hit_tokens.clone());
        r.register("prefix_evictions", "KV pages taken back to make room", m.prefix_evictions.clone());
        r.register(
            "kv_pages",
            "KV pages: free, indexed for reuse, or private to a request",
            m.kv_pages.clone(),
        );
        r.register("programs_compiled", "Programs compiled", m.compiled.clone());
        r.register("programs_loaded", "Programs loaded from the disk cache", m.loaded.clone());
        metrics
    }

    /// A request got its response.
    pub fn answered(&self, status: u16, code: &'static str, elapsed: Duration) {
        self.requests.get_or_create(&Outcome { status, code }).inc();
        self.request_time.observe(elapsed.as_secs_f64());
    }

    /// A request was scored.
    pub fn scored(&self, items: usize, prompt_tokens: usize) {
        self.items.inc_by(items as u64);
        self.prompt_tokens.inc_by(prompt_tokens as u64);
    }

    /// A forward pass was run.
    pub fn pass<E: ForwardPass>(&self, scorer: &Scorer<E>, report: PassReport) {
        self.passes.inc();
        self.pass_time.observe(report.elapsed.as_secs_f64());
        self.cancelled.inc_by(report.cancelled as u64);
        let stats = scorer.prefix_stats();
        for (counter, total) in [
            (&self.prefix_lookups, stats.lookups),
            (&self.prefix_hits, stats.hits),
            (&self.prefix_tokens, stats.looked_up_tokens),
            (&self.prefix_hit_tokens, stats.hit_tokens),
            (&self.prefix_evictions, stats.evictions),
        ] {
            counter.inner().store(total, Ordering::Relaxed);
        }
        let private = stats.pages - stats.free_pages - stats.indexed_pages;
        for (state, pages) in
            [("free", stats.free_pages), ("indexed", stats.indexed_pages), ("private", private)]
        {
            self.kv_pages.get_or_create(&PageState { state }).set(pages as i64);
        }
    }

    /// What became of the programs that passes needed.
    pub fn programs(&self, stats: CacheStats) {
        self.compiled.inner().store(stats.compiles, Ordering::Relaxed);
        self.loaded.inner().store(stats.disk_hits, Ordering::Relaxed);
    }

    /// The text of `/metrics`.
    pub fn encode(&self, pending: usize) -> Result<String, fmt::Error> {
        self.pending.set(pending as i64);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
