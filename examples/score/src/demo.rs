use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use tpu_rpa::score::ScoreRequest;

use crate::{progress, report};
use engine::Service;

/// What the model reads before each headline; after the headline it is asked for the topic.
const QUERY: &str = "\
Headline: Home team wins the derby after extra time
Topic: sports

Headline: Shares fall as inflation rises
Topic: business

Headline: Bees can count to four, researchers say
Topic: science

Headline: President signs the budget
Topic: politics

Headline: Sprinter breaks the national record
Topic: sports

Headline: Astronomers see a star being born
Topic: science

Headline:";

/// Headlines are ranked by the first.
const TOPICS: [&str; 4] = [" science", " sports", " business", " politics"];

const HEADLINES: [&str; 12] = [
    "Striker scores twice as the hosts reach the final",
    "Telescope finds water vapour around a distant planet",
    "Bank raises interest rates for the third time this year",
    "Parliament votes on the new election law",
    "Fossil shows how early whales walked on land",
    "Champion retires after her tenth marathon title",
    "Car maker closes two factories and cuts costs",
    "New antibiotic kills resistant bacteria in mice",
    "Minister resigns after a week of protests",
    "Physicists measure the mass of the neutrino more closely",
    "Young goalkeeper signs a contract for five years",
    "Oil price falls as demand weakens",
];

/// Ranks the built-in headlines and prints them.
pub(crate) fn run(service: &mut Service, load_time: Duration) -> Result<()> {
    let label = |topic: &&str| {
        let id = service.tokenizer.single(topic)?;
        id.with_context(|| format!("{topic:?} is not one token of this model"))
    };
    let item = |headline: &&str| Ok(service.tokenizer.encode(&format!(" {headline}\nTopic:"))?);
    let request = ScoreRequest {
        query: service.tokenizer.encode(QUERY)?,
        items: HEADLINES.iter().map(item).collect::<Result<_>>()?,
        label_token_ids: TOPICS.iter().map(label).collect::<Result<_>>()?,
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

    let mut ranked: Vec<(f32, &str)> = response.scores.iter().map(|s| s[0]).zip(HEADLINES).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    if !table.is_tty() {
        table.set_width(100);
    }
    table.set_header(["rank", "P(science)", "headline"]);
    for (rank, (score, headline)) in ranked.iter().enumerate() {
        table.add_row([(rank + 1).to_string(), format!("{score:.3}"), (*headline).to_owned()]);
    }
    for column in 0..2 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("Which headlines are for the science page?\n{table}");
    let engine = service.scorer.engine();
    println!("model loaded in {:.1} s", load_time.as_secs_f64());
    println!("{}", report::speed(engine, request.items.len(), response.usage.prompt_tokens, elapsed));
    println!("{}", report::resources(engine));
    Ok(())
}
