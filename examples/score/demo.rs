use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use tpu_rpa::score::ScoreRequest;

use crate::engine::Service;
use crate::{progress, report};

const QUESTION: &str = "how do I get rid of limescale in an espresso machine";

/// Ranked against the question.
const PASSAGES: [&str; 12] = [
    "Fill the water tank with a descaling solution, run half of it through the brew group and half through the steam \
     wand, wait ten minutes, then flush with two tanks of fresh water.",
    "Espresso was first served in Turin at the end of the nineteenth century.",
    "Citric acid dissolves limescale: two tablespoons in a litre of warm water, run through the machine once a month.",
    "A grinder with conical burrs gives an even grind and is quieter than one with flat burrs.",
    "White vinegar removes mineral deposits from a kettle, but its smell stays in the seals of a coffee machine.",
    "The train from Milan to Turin takes about one hour.",
    "Water with much calcium leaves deposits in the boiler; a filter in the tank makes cleaning necessary less often.",
    "Limescale is mostly calcium carbonate, which forms when hard water is heated.",
    "To froth milk, hold the tip of the wand just below the surface until the jug feels warm.",
    "Backflushing with a detergent removes coffee oils from the three-way valve. It does not remove scale.",
    "If the descaling light stays on after cleaning, hold the rinse button for five seconds to reset it.",
    "The stock market closed higher on Friday after a week of losses.",
];

/// Ranks the built-in passages and prints them.
pub(crate) fn run(service: &mut Service, load_time: Duration) -> Result<()> {
    let label =
        |text: &str| service.tokenizer.single(text)?.with_context(|| format!("{text:?} is not one token"));
    let labels = vec![label(" yes")?, label(" no")?];
    let query = format!(
        "A user searched for: {QUESTION}\nDecide for each passage whether it tells the user how to do that.\nPassage:"
    );
    let request = ScoreRequest {
        query: service.tokenizer.encode(&query)?,
        items: PASSAGES
            .iter()
            .map(|passage| {
                service.tokenizer.encode(&format!(" {passage}\nDoes it answer the search? Answer:"))
            })
            .collect::<Result<_, _>>()?,
        label_token_ids: labels,
        apply_softmax: true,
        item_first: false,
    };

    let bar = progress::items(request.items.len());
    let compiling = bar.clone();
    service.scorer.engine_mut().on_compile(move |tokens| {
        compiling.set_message(format!("compiling for {tokens} tokens"));
    });
    let start = Instant::now();
    let response = service.scorer.score_with(&request, |progress| {
        bar.set_message(format!("{} of {} passes", progress.passes_done, progress.passes));
        bar.set_position(progress.items_done as u64);
    })?;
    let elapsed = start.elapsed();
    bar.finish_and_clear();

    let mut ranked: Vec<(f32, &str)> = response.scores.iter().map(|s| s[0]).zip(PASSAGES).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    if !table.is_tty() {
        table.set_width(100);
    }
    table.set_header(["rank", "P(yes)", "passage"]);
    for (rank, (score, passage)) in ranked.iter().enumerate() {
        table.add_row([(rank + 1).to_string(), format!("{score:.3}"), (*passage).to_owned()]);
    }
    for column in 0..2 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{QUESTION}\n{table}");
    let engine = service.scorer.engine();
    println!("model loaded in {:.1} s", load_time.as_secs_f64());
    println!("{}", report::totals(engine, request.items.len(), response.usage.prompt_tokens, elapsed));
    Ok(())
}
