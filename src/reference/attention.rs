use ndarray::{Array1, Array3, ArrayView1, ArrayView3, ArrayView5, s};

use super::Rounding;
use super::real::{Real, dot, greatest};
use crate::batch::Group;
use crate::mask::{self, Key, Query};
use crate::spec::AttentionSpec;

/// The tensors of one attention call; elements are `f32` or `half::bf16`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInputs<'a, E> {
    /// Queries `[T, q_heads, head_dim]`.
    pub q: ArrayView3<'a, E>,
    /// New keys `[T, kv_heads, head_dim]`.
    pub k: ArrayView3<'a, E>,
    /// New values `[T, kv_heads, head_dim]`.
    pub v: ArrayView3<'a, E>,
    /// Pages `[pages, 2, kv_heads, page_size, head_dim]`, K at index 0, V at 1.
    pub kv_pages: ArrayView5<'a, E>,
}

/// Attention in f64: `[T, q_heads, head_dim]`; rows that belong to no group (padding) are zeros.
pub fn attention<E: Copy + Into<f32>>(
    spec: &AttentionSpec,
    inputs: &AttentionInputs<'_, E>,
    groups: &[Group<'_>],
) -> Array3<f64> {
    evaluate(spec, inputs, groups, |p| p, |r| r)
}

/// Attention in f32 by the plain formula, rounded where `rounding` says; shape as of [`attention`].
pub fn attention_rounded<E: Copy + Into<f32>>(
    spec: &AttentionSpec,
    inputs: &AttentionInputs<'_, E>,
    groups: &[Group<'_>],
    rounding: Rounding,
) -> Array3<f32> {
    evaluate(spec, inputs, groups, |p| rounding.probability(p), |r| rounding.result(r))
}

fn evaluate<R: Real, E: Copy + Into<f32>>(
    spec: &AttentionSpec,
    inputs: &AttentionInputs<'_, E>,
    groups: &[Group<'_>],
    round_probability: impl Fn(R) -> R,
    round_result: impl Fn(R) -> R,
) -> Array3<R> {
    let mut result = Array3::zeros(inputs.q.raw_dim());
    for group in groups {
        for (row, query) in new_tokens(group) {
            let keys = visible_keys(spec, group, query);
            for head in 0..spec.q_heads() {
                let kv_head = head / spec.group_size();
                let q = inputs.q.slice(s![row, head, ..]);
                let scores: Vec<R> = keys.iter().map(|&at| score(spec, q, inputs.key(at, kv_head))).collect();
                let max = greatest(&scores);
                let probabilities: Vec<R> = scores.iter().map(|&s| (s - max).exp()).collect();
                let sum: R = probabilities.iter().copied().sum();
                let mut out = Array1::<R>::zeros(spec.head_dim());
                for (&at, &p) in keys.iter().zip(&probabilities) {
                    let p = round_probability(p);
                    out.zip_mut_with(&inputs.value(at, kv_head), |o, &v| *o += p * R::exact(v));
                }
                result.slice_mut(s![row, head, ..]).assign(&out.mapv(|o| round_result(o / sum)));
            }
        }
    }
    result
}

fn score<R: Real, E: Copy + Into<f32>>(
    spec: &AttentionSpec,
    q: ArrayView1<'_, E>,
    k: ArrayView1<'_, E>,
) -> R {
    let scaled = dot::<R, E>(q, k) * R::exact(spec.scale());
    spec.soft_cap().map_or(scaled, |cap| R::exact(cap) * (scaled / R::exact(cap)).tanh())
}

/// Where a visible key and its value are stored.
#[derive(Clone, Copy)]
enum At {
    Page { page: usize, slot: usize },
    Token(usize),
}

impl<'a, E> AttentionInputs<'a, E> {
    fn key(&self, at: At, kv_head: usize) -> ArrayView1<'_, E> {
        self.stored(at, kv_head, &self.k, 0)
    }

    fn value(&self, at: At, kv_head: usize) -> ArrayView1<'_, E> {
        self.stored(at, kv_head, &self.v, 1)
    }

    fn stored<'b>(
        &'b self,
        at: At,
        kv_head: usize,
        new: &'b ArrayView3<'a, E>,
        half: usize,
    ) -> ArrayView1<'b, E> {
        match at {
            At::Page { page, slot } => self.kv_pages.slice(s![page, half, kv_head, slot, ..]),
            At::Token(token) => new.slice(s![token, kv_head, ..]),
        }
    }
}

/// The group's new tokens: row of the token stream, and place in the group.
fn new_tokens(group: &Group<'_>) -> Vec<(usize, Query)> {
    let mut tokens = Vec::new();
    for (segment, ends) in group.cu_seg_lens.windows(2).enumerate() {
        for (offset, row) in (ends[0]..ends[1]).enumerate() {
            tokens.push((row as usize, Query { segment, offset }));
        }
    }
    tokens
}

/// Every key of the group, asked one by one whether `query` sees it.
fn visible_keys(spec: &AttentionSpec, group: &Group<'_>, query: Query) -> Vec<At> {
    let prefix_len = group.prefix_len as usize;
    let lead_len = (group.cu_seg_lens[1] - group.cu_seg_lens[0]) as usize;
    let position = |token: Query| mask::position(prefix_len, lead_len, token, group.lead);
    let sees = |key: Key, key_position: usize| {
        mask::visible(query, key, group.lead)
            && mask::in_window(position(query) as i64, key_position as i64, spec.sliding_window())
    };
    let paged = (0..prefix_len)
        .filter(|&i| sees(Key::Prefix, i))
        .map(|i| At::Page { page: group.pages[i / spec.page_size()] as usize, slot: i % spec.page_size() });
    let new = new_tokens(group).into_iter().filter_map(|(row, token)| {
        let Query { segment, offset } = token;
        sees(Key::New { segment, offset }, position(token)).then_some(At::Token(row))
    });
    paged.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, Array5};

    fn spec(window: Option<u32>) -> AttentionSpec {
        let builder = AttentionSpec::builder(2, 1, 64).page_size(8);
        window.map_or(builder.clone(), |w| builder.sliding_window(w)).build().unwrap()
    }

    /// Values count tokens: prefix token `i` is `i`, new token `t` is `100 + t`; all keys are alike.
    fn uniform(group: &Group<'_>, tokens: usize, window: Option<u32>) -> Vec<f64> {
        let zeros = Array3::<f32>::zeros((tokens, 2, 64));
        let v = Array::from_shape_fn((tokens, 1, 64), |(t, ..)| 100.0 + t as f32);
        let pages = Array5::from_shape_fn((2, 2, 1, 8, 64), |(page, half, _, slot, _)| {
            if half == 0 { 0.0 } else { ((1 - page) * 8 + slot) as f32 }
        });
        let k = Array3::zeros((tokens, 1, 64));
        let inputs = AttentionInputs { q: zeros.view(), k: k.view(), v: v.view(), kv_pages: pages.view() };
        attention(&spec(window), &inputs, &[*group]).slice(s![.., 1, 3]).to_vec()
    }

    #[test]
    fn averages_what_each_token_sees() {
        // Two prefix tokens, a lead of two, an item of one, an item of two, one padding row.
        let group = Group { prefix_len: 2, pages: &[1, 0], cu_seg_lens: &[0, 2, 3, 5], lead: true };
        let prefix = 0.0 + 1.0;
        let lead = prefix + 100.0 + 101.0;
        let expected = [
            (prefix + 100.0) / 3.0,
            lead / 4.0,
            (lead + 102.0) / 5.0,
            (lead + 103.0) / 5.0,
            (lead + 103.0 + 104.0) / 6.0,
            0.0,
        ];
        assert_eq!(uniform(&group, 6, None), expected);

        let no_lead = Group { lead: false, ..group };
        assert_eq!(uniform(&no_lead, 6, None)[2], (prefix + 102.0) / 3.0);
    }

    #[test]
    fn window_counts_positions_not_rows() {
        let group = Group { prefix_len: 2, pages: &[1, 0], cu_seg_lens: &[0, 2, 3, 5], lead: true };
        // Row 3 is at position 4: with a window of 2 it sees itself and the lead's last token.
        let expected = [(1.0 + 100.0) / 2.0, 100.5, (101.0 + 102.0) / 2.0, 102.0, 103.5, 0.0];
        assert_eq!(uniform(&group, 6, Some(2)), expected);
        assert_eq!(uniform(&group, 6, Some(1)), [100.0, 101.0, 102.0, 103.0, 104.0, 0.0]);
    }

    #[test]
    fn scale_and_cap_act_on_scores() {
        // One head, two keys; scores 0.5 and -0.5 before the cap.
        let spec = AttentionSpec::builder(1, 1, 64).scale(0.5).soft_cap(0.25).build().unwrap();
        let mut q = Array3::<f32>::zeros((2, 1, 64));
        q[[1, 0, 0]] = 1.0;
        let mut k = Array3::zeros((2, 1, 64));
        (k[[0, 0, 0]], k[[1, 0, 0]]) = (1.0, -1.0);
        let mut v = Array3::zeros((2, 1, 64));
        v[[0, 0, 0]] = 1.0;
        let pages = Array5::zeros((1, 2, 1, 16, 64));
        let inputs = AttentionInputs { q: q.view(), k: k.view(), v: v.view(), kv_pages: pages.view() };
        let group = Group { cu_seg_lens: &[0, 2], ..Group::default() };
        let capped = 0.25 * 2f64.tanh();
        let expected = 1.0 / (1.0 + (-2.0 * capped).exp());
        let got = attention(&spec, &inputs, &[group])[[1, 0, 0]];
        assert!((got - expected).abs() < 1e-15, "{got} {expected}");
        let f32_got = attention_rounded(&spec, &inputs, &[group], Rounding::F32)[[1, 0, 0]];
        assert!((f64::from(f32_got) - expected).abs() < 1e-7);
        let bf16_got = attention_rounded(&spec, &inputs, &[group], Rounding::Bf16Result)[[1, 0, 0]];
        assert_eq!(bf16_got, half::bf16::from_f32(f32_got).to_f32());
    }
}
