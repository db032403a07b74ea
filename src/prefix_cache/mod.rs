//! KV pages that outlive a request: a page pool, and an index of the token prefixes that its pages hold.
//!
//! [`PrefixCache`] hands out page ids; it never sees keys or values. The index is a radix tree whose edges are pages
//! of token ids: a node is one page, and the path to it spells every token that its keys depend on. A last page that
//! is only partly filled is a leaf.
//!
//! ```text
//! acquire ── pages found, pages to write ──► device writes ──► commit ──► found by later requests
//!    └── a Hold keeps all of them ─────────────────────────────────────► dropped
//! ```
//!
//! A page that a [`Hold`] names is never evicted. Of the others the least recently used leaf goes first, so a prefix
//! outlives what extends it only as long as it is used.

mod cache;
mod error;
mod hold;
mod pool;
mod tree;

pub use cache::PrefixCache;
pub use error::PrefixError;
pub use hold::Hold;
pub use pool::PrefixStats;
