/// The static shape that a plan fits: compositions of one bucket share one compiled program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// Rows of the token stream, padding included; a multiple of `q_tile`.
    pub tokens: usize,
    /// Words of the metadata tensor.
    pub meta_words: usize,
    /// Query tokens of a tile.
    pub q_tile: usize,
}

/// Smallest token bucket that holds `tokens`: less than half larger above 128, a quarter above 512, an eighth
/// above 2048. Steps stay coarse below, for a large query tile must divide the bucket.
pub(super) fn token_bucket(tokens: usize) -> usize {
    let step = match tokens {
        0..=128 => return tokens.next_power_of_two().max(16),
        129..=256 => 64,
        257..=1024 => 128,
        1025..=4096 => 256,
        _ => 1 << (tokens.ilog2() - 4),
    };
    tokens.next_multiple_of(step)
}

/// Smallest metadata bucket: the row sections, and room for tables in powers of two.
///
/// The least room holds the slots of any packing (at most two a token) and a few tiles a query tile, so that
/// ordinary batches of one token bucket share one metadata bucket.
pub(super) fn meta_bucket(token_rows: usize, words: usize) -> usize {
    let rows = super::meta::table_start(token_rows);
    let least = 2 * token_rows + 1024;
    rows + (words - rows).max(least).next_power_of_two()
}

/// Largest query tile that divides a token bucket, at most `cap`.
pub(super) fn q_tile_for(token_rows: usize, cap: usize) -> usize {
    (1usize << token_rows.trailing_zeros()).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_and_waste_little() {
        for t in 1..20_000 {
            let b = token_bucket(t);
            assert!(b >= t && token_bucket(b) == b, "{t} -> {b}");
            let share = match t {
                0..=128 => 1,
                129..=512 => 2,
                513..=2048 => 4,
                _ => 8,
            };
            assert!(t < 16 || (b - t) * share < t, "{t} -> {b}");
            assert!(q_tile_for(b, 256) >= 16);
            assert!(t <= 1024 || q_tile_for(b, 256) == 256, "{t} -> {b}");
        }
    }
}
