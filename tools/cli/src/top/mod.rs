//! `top`.

mod sample;
mod scrape;
mod table;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use self::sample::Sample;
use crate::console::Console;
use crate::failure::Stop;

/// Moves a terminal's cursor to the top left, and clears what is below.
const REDRAW: &str = "\x1b[H\x1b[J";

/// Show what a gofer is doing
///
/// Asks a gofer that was started with --metrics what it has done, again and again, and shows the
/// difference: how many requests of which kind, how long they took, what failed, how many bytes went
/// through, what clients hold, and how the gofer waited. On a terminal the table is drawn anew each
/// time, elsewhere one follows the other.
///
/// Bytes that clients read and write through donated descriptors do not show.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  lisafs-gofer serve --metrics /run/gofer.metrics --listen /run/gofer.sock /srv &
  lisafs top --metrics /run/gofer.metrics
  lisafs --json top --metrics /run/gofer.metrics --count 1 --interval 10")]
pub(crate) struct Top {
    /// The socket that the gofer was told with --metrics
    #[arg(long, value_name = "SOCKET")]
    metrics: PathBuf,

    /// How many tables to show; without end if it is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// How many seconds there are between two looks
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    interval: Duration,
}

impl Top {
    pub(crate) fn run(&self, console: &mut Console) -> Result<(), Stop> {
        let redraw = io::stdout().is_terminal() && !console.is_json();
        let (mut then, mut before) = (Instant::now(), self.look()?);
        let mut shown = 0;
        while self.count.is_none_or(|count| shown < count) {
            thread::sleep(self.interval.saturating_sub(then.elapsed()));
            let (now, after) = (Instant::now(), self.look()?);
            let elapsed = now.duration_since(then).as_secs_f64();
            let table = table::Table::new(&before, &after, elapsed);
            if console.is_json() {
                console.object(table.object())?;
            } else {
                if redraw {
                    console.out_text(REDRAW)?;
                } else if shown > 0 {
                    console.line("")?;
                }
                console.out_text(&table.to_string())?;
            }
            console.flush()?;
            (then, before) = (now, after);
            shown += 1;
        }
        Ok(())
    }

    fn look(&self) -> Result<Sample, Stop> {
        let text = scrape::scrape(&self.metrics)?;
        Ok(Sample::parse(&text))
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|why| format!("{why}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration >= Duration::from_millis(10) => Ok(duration),
        _ => Err("it has to be at least 0.01".to_owned()),
    }
}
