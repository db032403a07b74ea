//! The scoring module against an engine that reads each plan as a kernel does and hashes what a row sees: a wrong
//! group, row, position, page or label gives another number.

use std::collections::HashMap;

use common::hashing::{Hashing, PAGE_SIZE, expected};
use proptest::prelude::*;
use tpu_rpa::batch::{TileSource, Tiling, layout};
use tpu_rpa::score::{
    Algorithm, Finished, ForwardPass, Limits, Pass, ScoreError, ScoreRequest, ScoreResponse, Scorer, Ticket,
};

fn limits(pass_tokens: usize) -> Limits {
    Limits {
        vocabulary: 100,
        context: 600,
        pass_tokens,
        max_request_tokens: 20_000,
        max_items: 50,
        sliding_window: None,
        max_labels: 20,
        page_size: PAGE_SIZE,
        pool_pages: 600 / PAGE_SIZE,
        tiling: Tiling::portable(32, 32, 16, PAGE_SIZE).expect("the tiling is valid"),
    }
}

/// The tiles of [`limits`] as TPU kernels take them, in row blocks.
fn row_blocks(tokens: usize) -> Tiling {
    let tiling = Tiling::tpu(32, 32, 16, PAGE_SIZE).expect("the tiling is valid");
    tiling.with_row_block(tokens).expect("the block suits the tile").into()
}

fn scorer(pass_tokens: usize) -> Scorer<Hashing> {
    Scorer::new(Hashing::new(limits(pass_tokens))).expect("the limits are valid")
}

fn ids(length: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<i32>> {
    length.prop_flat_map(|n| prop::collection::vec(0..100, n))
}

fn requests() -> impl Strategy<Value = ScoreRequest> {
    let query = ids(prop_oneof![1 => Just(0), 4 => 1..=40usize, 2 => 41..=300usize]);
    let item = ids(prop_oneof![1 => Just(0), 6 => 1..=20usize, 1 => 21..=80usize]);
    (query, prop::collection::vec(item, 1..=20), ids(1..=11usize), any::<bool>(), any::<bool>())
        .prop_filter("prompts have tokens", |(query, items, ..)| {
            !query.is_empty() || items.iter().all(|item| !item.is_empty())
        })
        .prop_map(|(query, items, label_token_ids, apply_softmax, item_first)| ScoreRequest {
            query,
            items,
            label_token_ids,
            apply_softmax,
            item_first,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the budget and the algorithm, every item is scored on exactly its own prompt.
    #[test]
    fn scores_are_those_of_prompts_alone(
        request in requests(),
        budget in prop_oneof![1..=64usize, 65..=2000usize],
        serial in any::<bool>(),
    ) {
        let mut scorer = scorer(600);
        scorer.set_token_budget(budget);
        scorer.set_algorithm(if serial { Algorithm::Serial } else { Algorithm::Packed });
        let mut reports = Vec::new();
        let response = scorer.score_with(&request, |progress| reports.push(progress)).expect("a valid request");
        prop_assert_eq!(&response.logprobs, &expected(&request));

        let passes = &scorer.engine().passes;
        let last = reports.last().expect("a pass");
        prop_assert_eq!((last.passes_done, last.items_done), (passes.len(), request.items.len()));
        prop_assert_eq!(reports.len(), passes.len());
        // Over the budget only with what cannot be cut.
        let query = if request.item_first { request.query.len() } else { 0 };
        let longest = request.items.iter().map(|item| item.len() + query).max().unwrap_or(0);
        prop_assert!(passes.iter().all(|&tokens| tokens <= budget.max(longest).max(32)), "{:?}", passes);
    }

    /// Packed without a budget, the query is computed once.
    #[test]
    fn a_shared_query_is_computed_once(request in requests()) {
        let mut scorer = scorer(20_000);
        let response = scorer.score(&request).expect("a valid request");
        let queries = if request.item_first { request.items.len() } else { 1 };
        let items: usize = request.items.iter().map(Vec::len).sum();
        prop_assert_eq!(&scorer.engine().passes, &[queries * request.query.len() + items]);
        prop_assert_eq!(response.usage.prompt_tokens, request.query.len() + items);
    }
}

/// Queries of three families that begin alike.
fn alike() -> impl Strategy<Value = ScoreRequest> {
    (requests(), 0..3i32, prop_oneof![0..=40usize, 60..=70usize, 200..=260usize]).prop_map(
        |(mut request, family, length)| {
            if !request.query.is_empty() {
                request.query = (0..=length as i32).map(|i| (family * 31 + i * 7) % 100).collect();
            }
            request
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Requests that share passes and pages, some of them cancelled: each of the others gets its result once, and it
    /// is the one that it has alone.
    #[test]
    fn requests_together_score_as_each_alone(
        arrivals in prop::collection::vec((alike(), 0..4usize, prop::option::weighted(0.2, 0..4usize)), 1..16),
        budget in 1..=700usize,
        pages in prop_oneof![Just(600 / PAGE_SIZE), 75..=90usize],
        reuse in any::<bool>(),
        row_block in prop::sample::select(vec![None, Some(32), Some(16), Some(8)]),
    ) {
        let mut limits = limits(600);
        limits.pool_pages = pages;
        // As TPU kernels take it, passes with padding between requests included.
        if let Some(tokens) = row_block {
            limits.tiling = row_blocks(tokens);
        }
        let mut scorer = Scorer::new(Hashing::new(limits)).expect("the limits are valid");
        scorer.set_token_budget(budget);
        scorer.set_prefix_reuse(reuse);
        let mut results: HashMap<Ticket, Vec<Vec<f32>>> = HashMap::new();
        let mut wanted: HashMap<Ticket, &ScoreRequest> = HashMap::new();
        let mut cancels: Vec<(usize, Ticket)> = Vec::new();
        let mut passes = 0;
        let mut run = |scorer: &mut Scorer<Hashing>, wanted: &mut HashMap<_, _>, cancels: &mut Vec<(usize, Ticket)>| {
            passes += 1;
            for Finished { ticket, result } in scorer.run_pass() {
                let before = results.insert(ticket, result.expect("a valid request").logprobs);
                assert!(before.is_none(), "a second result");
            }
            cancels.retain(|&(at, ticket)| {
                let due = at <= passes;
                if due && scorer.cancel(ticket) {
                    wanted.remove(&ticket);
                }
                !due
            });
            assert!(passes < 5000, "no progress");
        };
        for (request, passes_before, cancel) in &arrivals {
            for _ in 0..*passes_before {
                run(&mut scorer, &mut wanted, &mut cancels);
            }
            let ticket = scorer.submit(request.clone()).expect("a valid request");
            wanted.insert(ticket, request);
            cancels.extend(cancel.map(|after| (after, ticket)));
        }
        while scorer.pending() > 0 {
            run(&mut scorer, &mut wanted, &mut cancels);
        }
        for (ticket, request) in &wanted {
            prop_assert_eq!(&results[ticket], &expected(request));
        }
        prop_assert_eq!(results.len(), wanted.len());
        let stats = scorer.prefix_stats();
        prop_assert_eq!(stats.free_pages + stats.indexed_pages, pages, "every page is free or known");
    }
}

#[test]
fn a_repeated_query_costs_only_its_items() {
    let mut scorer = scorer(600);
    scorer.set_prefix_reuse(true);
    let query: Vec<i32> = (0..101).map(|i| i % 100).collect();
    for (items, passes) in [([[1, 2], [3, 4]], vec![105]), ([[5, 6], [7, 8]], vec![105, 4])] {
        let request = request(&query, &[&items[0], &items[1]], &[9]);
        assert_eq!(scorer.score(&request).expect("a valid request").logprobs, expected(&request));
        assert_eq!(scorer.engine().passes, passes);
    }
    // A query that begins alike reuses whole tiles of 32; so does one with an empty item.
    let mut longer = query.clone();
    longer.extend([3; 9]);
    let longer = request(&longer, &[&[1]], &[9]);
    let empty = request(&query, &[&[], &[4]], &[9]);
    for (request, tokens) in [(&longer, 15), (&empty, 6)] {
        assert_eq!(scorer.score(request).expect("a valid request").logprobs, expected(request));
        assert_eq!(scorer.engine().passes.last(), Some(&tokens));
    }
    let stats = scorer.prefix_stats();
    assert_eq!((stats.lookups, stats.hits), (4, 3));
    assert_eq!(stats.hit_tokens, 101 + 96 + 96);
}

#[test]
fn small_requests_share_a_pass_and_overtake_a_large_one() {
    let mut scorer = scorer(600);
    let large = request(&[1; 10], &[[2; 100].as_slice(); 40], &[1]);
    let large = scorer.submit(large).expect("a valid request");
    assert!(scorer.run_pass().is_empty());
    let small = [3, 4, 5].map(|q| scorer.submit(request(&[q; 20], &[&[1; 5]], &[q])).expect("valid"));
    let tickets = |finished: Vec<Finished>| finished.iter().map(|f| f.ticket).collect::<Vec<_>>();
    let mut order = Vec::new();
    while scorer.pending() > 0 {
        order.push(tickets(scorer.run_pass()));
    }
    assert_eq!(order[..2], [vec![], small.to_vec()], "after one more pass of the large one");
    assert_eq!(order.last(), Some(&vec![large]));
}

/// Cached queries whose items would lie in two row blocks: the pass has padding in front of them, for they would be read
/// twice.
#[test]
fn padding_keeps_the_items_of_cached_queries_in_one_row_block() {
    let mut limits = limits(600);
    limits.tiling = row_blocks(16);
    let mut scorer = Scorer::new(Hashing::new(limits)).expect("the limits are valid");
    scorer.set_prefix_reuse(true);
    let queries = [0, 30].map(|first| (first..first + 200).map(|id| id % 100).collect::<Vec<i32>>());
    let item: Vec<i32> = (0..10).collect();
    let requests = queries.each_ref().map(|query| request(query, &[&item], &[1]));
    for request in &requests {
        scorer.score(request).expect("a valid request");
    }
    let before = scorer.engine().passes.len();
    let tickets = requests.each_ref().map(|request| scorer.submit(request.clone()).expect("a valid request"));
    let finished = scorer.run_pass();
    assert_eq!(finished.len(), 2);
    for (ticket, request) in tickets.iter().zip(&requests) {
        let result = finished.iter().find(|f| f.ticket == *ticket).expect("both are done");
        assert_eq!(result.result.as_ref().expect("a valid request").logprobs, expected(request));
    }
    // The 10 tokens of an item each, the second's from token 16 on.
    assert_eq!(scorer.engine().passes[before..], [26]);
}

#[test]
fn a_failed_pass_harms_nobody_who_had_not_begun() {
    let mut scorer = Scorer::new(Fixed(Ok(vec![-1.0; 64]))).expect("the limits are valid");
    scorer.set_prefix_reuse(true);
    scorer.set_token_budget(100);
    let first = scorer.submit(request(&[1; 60], &[&[1; 60]], &[1])).expect("valid");
    assert!(scorer.run_pass().is_empty());
    scorer.engine_mut().0 = Err(std::fmt::Error);
    let second = scorer.submit(request(&[2; 90], &[&[1]], &[1])).expect("valid");
    let third = scorer.submit(request(&[3; 90], &[&[1]], &[1])).expect("valid");
    let failed = scorer.run_pass();
    assert!(failed.iter().all(|f| f.result.as_ref().is_err_and(|e| e.code() == "engine_error")));
    assert_eq!(failed.iter().map(|f| f.ticket).collect::<Vec<_>>(), [first]);
    scorer.engine_mut().0 = Ok(vec![-1.0; 64]);
    for ticket in [second, third] {
        let next = scorer.run_pass();
        assert_eq!(next.len(), 1);
        assert!(next[0].ticket == ticket && next[0].result.is_ok());
    }
}

/// An engine that loses its pages with a failed pass, as one does that donates them.
struct Forgetful {
    inner: Hashing,
    fails: bool,
}

impl ForwardPass for Forgetful {
    type Error = std::fmt::Error;

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn run(&mut self, pass: &Pass) -> Result<Vec<f32>, std::fmt::Error> {
        if std::mem::take(&mut self.fails) {
            self.inner = Hashing::new(self.inner.limits());
            return Err(std::fmt::Error);
        }
        let Ok(values) = self.inner.run(pass);
        Ok(values)
    }
}

#[test]
fn a_prefix_is_forgotten_with_the_pass_that_failed() {
    let mut scorer = Scorer::new(Forgetful { inner: Hashing::new(limits(600)), fails: false }).unwrap();
    scorer.set_prefix_reuse(true);
    let query: Vec<i32> = (0..50).collect();
    let ask = |items: &[&[i32]]| request(&query, items, &[1, 2]);
    let known = ask(&[&[7, 8]]);
    assert_eq!(scorer.score(&known).unwrap().logprobs, expected(&known));
    assert_eq!(scorer.score(&known).unwrap().logprobs, expected(&known), "by its pages");
    let found = scorer.prefix_stats().hits;
    assert!(found > 0);
    scorer.engine_mut().fails = true;
    assert_eq!(scorer.score(&ask(&[&[9]])).unwrap_err().code(), "engine_error");
    // The query's pages hold nothing now: it must be computed again, and then be found again.
    for hits in [found + 1, found + 2] {
        let next = ask(&[&[3], &[4, 5]]);
        assert_eq!(scorer.score(&next).unwrap().logprobs, expected(&next));
        assert_eq!(scorer.prefix_stats().hits, hits);
    }
}

/// An engine whose model overflows at one token. What a pass does with that, `spreads` says pass by pass: only rows that see
/// the token are NaN, or all rows are, and all that it writes to pages: then so are passes that read it.
struct Overflowing {
    inner: Hashing,
    spreads: Vec<bool>,
    spoiled: Vec<bool>,
}

const OVERFLOW: i32 = 99;

impl Overflowing {
    fn new(limits: Limits, spreads: Vec<bool>) -> Self {
        let spoiled = vec![false; limits.pool_pages * limits.page_size];
        Overflowing { inner: Hashing::new(limits), spreads, spoiled }
    }

    fn reads_spoiled(&self, pass: &Pass) -> bool {
        let (plan, meta) = (pass.plan(), pass.plan().meta());
        let tiles = (0..plan.stats().q_tiles).flat_map(|q| plan.tiles(q));
        tiles.filter(|tile| tile.source == TileSource::Pages).any(|tile| {
            (0..tile.keys).any(|key| {
                let page = meta[meta[layout::PAGES] as usize + tile.start + key / PAGE_SIZE] as usize;
                self.spoiled[page * PAGE_SIZE + key % PAGE_SIZE]
            })
        })
    }
}

impl ForwardPass for Overflowing {
    type Error = std::convert::Infallible;

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn run(&mut self, pass: &Pass) -> Result<Vec<f32>, Self::Error> {
        let spreads = self.spreads[self.inner.passes.len() % self.spreads.len()];
        let overflows = pass.token_ids().contains(&OVERFLOW);
        let all = spreads && overflows || self.reads_spoiled(pass);
        let sees: Vec<bool> = pass
            .rows()
            .iter()
            .map(|&row| self.inner.seen(pass, row as usize).iter().any(|&(token, _)| token == OVERFLOW))
            .collect();
        let mut values = self.inner.run(pass)?;
        for (row, sees) in values.chunks_mut(pass.labels().len()).zip(sees) {
            if all || sees {
                row.fill(f32::NAN);
            }
        }
        for &slot in pass.kv_slots().slots().iter().filter(|&&slot| slot >= 0) {
            self.spoiled[slot as usize] = all;
        }
        Ok(values)
    }
}

/// Items that are no number, and the log-probs of the others, out of a result.
fn apart(result: Result<ScoreResponse, ScoreError>) -> (Vec<usize>, Vec<Vec<f32>>) {
    match result {
        Ok(response) => (Vec::new(), response.logprobs),
        Err(ScoreError::NonFinite(found)) => {
            let named = format!("items[{}], label 0, is NaN", found.items[0].item);
            assert!(found.to_string().contains(&named), "{found}");
            assert_eq!(found.others.scores.len(), found.others.logprobs.len());
            (found.items.iter().map(|item| item.item).collect(), found.others.logprobs)
        }
        Err(error) => panic!("{error}"),
    }
}

/// What [`apart`] should give.
fn expected_apart(request: &ScoreRequest) -> (Vec<usize>, Vec<Vec<f32>>) {
    let mut logprobs = expected(request);
    let overflows =
        |item: &usize| request.query.contains(&OVERFLOW) || request.items[*item].contains(&OVERFLOW);
    let items: Vec<usize> = (0..request.items.len()).filter(overflows).collect();
    items.iter().for_each(|&item| logprobs[item].clear());
    (items, logprobs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A value that is no number costs nobody else an answer, however it spreads in passes and pages: the items that it comes
    /// from are named, all others of the request and of other requests score as alone.
    #[test]
    fn an_overflow_costs_only_its_item(
        arrivals in prop::collection::vec((alike(), 0..3usize, prop::option::weighted(0.2, any::<u64>())), 1..8),
        budget in 1..=700usize,
        pages in prop_oneof![Just(600 / PAGE_SIZE), 75..=90usize],
        reuse in any::<bool>(),
        serial in any::<bool>(),
        spreads in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        let limits = Limits { pool_pages: pages, ..limits(600) };
        let mut scorer = Scorer::new(Overflowing::new(limits, spreads)).expect("the limits are valid");
        scorer.set_token_budget(budget);
        scorer.set_prefix_reuse(reuse);
        scorer.set_algorithm(if serial { Algorithm::Serial } else { Algorithm::Packed });
        let mut wanted: HashMap<Ticket, ScoreRequest> = HashMap::new();
        let mut results: Vec<Finished> = Vec::new();
        for (request, passes, overflow) in &arrivals {
            let mut request = request.clone();
            let clean = |tokens: &mut Vec<i32>| tokens.iter_mut().for_each(|id| *id %= OVERFLOW);
            clean(&mut request.query);
            request.items.iter_mut().for_each(clean);
            if let Some(place) = overflow {
                let at = *place as usize % (request.items.len() + 1);
                let text = if at == 0 { &mut request.query } else { &mut request.items[at - 1] };
                match text.len() {
                    0 => {}
                    len => text[(place >> 32) as usize % len] = OVERFLOW,
                }
            }
            wanted.insert(scorer.submit(request.clone()).expect("a valid request"), request);
            for _ in 0..*passes {
                results.extend(scorer.run_pass());
            }
        }
        let mut passes = 0;
        while scorer.pending() > 0 {
            results.extend(scorer.run_pass());
            passes += 1;
            prop_assert!(passes < 5000, "no progress");
        }
        prop_assert_eq!(results.len(), wanted.len());
        for Finished { ticket, result } in results {
            prop_assert_eq!(apart(result), expected_apart(&wanted[&ticket]));
        }
        let stats = scorer.prefix_stats();
        prop_assert_eq!(stats.free_pages + stats.indexed_pages, pages, "every page is free or known");
    }
}

/// One of two hundred items: some twenty passes, not two hundred.
#[test]
fn the_item_that_overflows_is_found_by_halves() {
    let limits = Limits { max_items: 200, ..limits(20_000) };
    let items: Vec<Vec<i32>> = (0..200).map(|i| vec![i % 90, if i == 71 { OVERFLOW } else { 3 }]).collect();
    let request = ScoreRequest { query: vec![5; 40], items, label_token_ids: vec![1], ..Default::default() };
    let mut scorer = Scorer::new(Overflowing::new(limits, vec![true])).expect("the limits are valid");
    let mut reports = Vec::new();
    let result = scorer.score_with(&request, |progress| reports.push(progress));
    assert_eq!(apart(result), expected_apart(&request));
    let passes = scorer.engine().inner.passes.len();
    assert!(passes <= 20, "{passes} passes");
    let last = reports.last().expect("a pass");
    assert_eq!((last.passes_done, last.passes, last.items_done), (passes, passes, 200));
}

fn request(query: &[i32], items: &[&[i32]], labels: &[i32]) -> ScoreRequest {
    ScoreRequest {
        query: query.to_vec(),
        items: items.iter().map(|item| item.to_vec()).collect(),
        label_token_ids: labels.to_vec(),
        ..ScoreRequest::default()
    }
}

#[test]
fn softmax_sums_to_one_and_probabilities_are_exponentials() {
    let mut request = request(&[1, 2], &[&[3], &[]], &[7, 8, 7]);
    let plain = scorer(600).score(&request).expect("a valid request");
    for (scores, logprobs) in plain.scores.iter().zip(&plain.logprobs) {
        assert!(scores.iter().zip(logprobs).all(|(s, l)| *s == f64::from(*l).exp() as f32));
    }
    request.apply_softmax = true;
    let over_labels = scorer(600).score(&request).expect("a valid request");
    assert_eq!(over_labels.logprobs, plain.logprobs);
    for scores in &over_labels.scores {
        assert_eq!(scores[0], scores[2], "a repeated label is scored again");
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}

#[test]
fn every_bad_request_gives_its_error_and_harms_nothing() {
    let long = vec![1; 601];
    let many: Vec<&[i32]> = vec![&[1]; 51];
    let mut item_first = request(&[1; 500], &[[1; 90].as_slice(); 40], &[1]);
    item_first.item_first = true;
    let cases = [
        (request(&[1], &[], &[1]), "no_items", Some("items")),
        (request(&[1], &[&[1]], &[]), "no_labels", Some("label_token_ids")),
        (request(&[1], &many, &[1]), "too_many_items", Some("items")),
        (request(&[1], &[&[1]], &[1; 21]), "too_many_labels", Some("label_token_ids")),
        (request(&[], &[&[1], &[]], &[1]), "empty_prompt", Some("items[1]")),
        (request(&[1, -1], &[&[1]], &[1]), "token_id_out_of_range", Some("query[1]")),
        (request(&[1], &[&[1], &[2, 100]], &[1]), "token_id_out_of_range", Some("items[1][1]")),
        (request(&[1], &[&[1]], &[1, i32::MAX]), "token_id_out_of_range", Some("label_token_ids[1]")),
        (request(&[1], &[&[1]], &[i32::MIN]), "token_id_out_of_range", Some("label_token_ids[0]")),
        (request(&[1], &[&long], &[1]), "context_length_exceeded", Some("items[0]")),
        (request(&long, &[&[]], &[1]), "context_length_exceeded", Some("items[0]")),
        (item_first, "too_many_tokens", Some("items")),
    ];
    let mut scorer = scorer(600);
    let good = request(&[1, 2], &[&[3]], &[4]);
    for (bad, code, param) in cases {
        let error = scorer.score(&bad).expect_err(code);
        assert_eq!((error.code(), error.param().as_deref()), (code, param), "{error}");
        assert_eq!(scorer.score(&good).expect("a valid request").logprobs, expected(&good));
    }
    assert_eq!(
        scorer.score(&request(&[1], &[&[2, -7]], &[1])).expect_err("negative").to_string(),
        "items[0][1] is -7; it must be in 0..100"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Limits that are taken are kept: no pass is one that the planner refuses.
    #[test]
    fn limits_are_refused_at_once_or_serve(
        request in requests(),
        (pass_tokens, context, budget) in (1..=80usize, 1..=600usize, 0..=100usize),
        reuse in any::<bool>(),
    ) {
        let limits = Limits { context, ..limits(pass_tokens) };
        match Scorer::new(Hashing::new(limits)) {
            Ok(mut scorer) => {
                prop_assert!(pass_tokens >= 32.min(context));
                scorer.set_prefix_reuse(reuse);
                scorer.set_token_budget(budget);
                match scorer.score(&request) {
                    Ok(response) => prop_assert_eq!(response.logprobs, expected(&request)),
                    Err(error) => prop_assert!(error.is_invalid_request(), "{}", error),
                }
            }
            Err(error) => {
                prop_assert!(pass_tokens < 32.min(context), "{}", error);
                prop_assert!(matches!(error, ScoreError::Limit { field: "pass_tokens", .. }), "{}", error);
            }
        }
    }
}

#[test]
fn what_the_engine_cannot_hold_is_refused() {
    let error = scorer(64).score(&request(&[1], &[&[1; 65]], &[1])).expect_err("too long for a pass");
    assert_eq!((error.code(), error.param().as_deref()), ("item_too_long", Some("items[0]")));

    let mut few_pages = limits(600);
    few_pages.pool_pages = 4;
    let mut scorer = Scorer::new(Hashing::new(few_pages)).expect("the limits are valid");
    let query = request(&[1; 33], &[[1; 10].as_slice(); 3], &[1]);
    assert!(scorer.score(&query).is_ok(), "one pass needs no pages");
    scorer.set_token_budget(50);
    let error = scorer.score(&query).expect_err("the query does not fit four pages");
    assert_eq!((error.code(), error.param().as_deref()), ("query_too_long", Some("query")));
}

/// An engine that returns what it is told to.
struct Fixed(Result<Vec<f32>, std::fmt::Error>);

impl ForwardPass for Fixed {
    type Error = std::fmt::Error;

    fn limits(&self) -> Limits {
        limits(600)
    }

    fn run(&mut self, _: &Pass) -> Result<Vec<f32>, std::fmt::Error> {
        self.0.clone()
    }
}

#[test]
fn an_engine_at_fault_is_reported_as_such() {
    for (result, code) in [
        (Err(std::fmt::Error), "engine_error"),
        (Ok(vec![-1.0; 63]), "engine_result"),
        (Ok(vec![f32::NAN; 64]), "engine_result"),
    ] {
        let mut scorer = Scorer::new(Fixed(result)).expect("the limits are valid");
        let error: ScoreError = scorer.score(&request(&[1], &[&[1], &[2]], &[1, 2])).expect_err(code);
        assert_eq!((error.code(), error.param()), (code, None), "{error}");
    }
}
