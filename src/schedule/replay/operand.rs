/// Words of an operand as they lie in memory: a matrix has its columns padded to 128, and lies in tiles of 8 × 128
/// if it has more.
pub(super) fn padded(words: &[i32], shape: &str) -> Vec<i32> {
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
