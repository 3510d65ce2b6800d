//! The numbers as text, in the format that Prometheus scrapes.

use std::fmt;
use std::sync::Arc;

use flipcall::WaitStats;
use lisafs::host::HostFs;
use lisafs::server::Server;
use lisafs::wire::{MESSAGE_COUNT, Mid};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::{Metrics, Sums, Transport};

/// What the text is, for the header of an answer.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All numbers of this process as text.
#[derive(Debug)]
pub(crate) struct Exposition {
    registry: Registry,
}

impl Exposition {
    /// The numbers of a server, and whether each layer of the sandbox is there.
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        server: Server<HostFs>,
        sandbox: Vec<(&'static str, bool)>,
    ) -> Exposition {
        let mut registry = Registry::with_prefix("lisafs");
        registry.register_collector(Box::new(Source {
            metrics,
            server,
            sandbox,
        }));
        Exposition { registry }
    }

    /// The text of this moment.
    ///
    /// # Errors
    /// If a number cannot be written, which is a bug.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Where the numbers come from.
#[derive(Debug)]
struct Source {
    metrics: Arc<Metrics>,
    server: Server<HostFs>,
    sandbox: Vec<(&'static str, bool)>,
}

impl Collector for Source {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let sums = self.metrics.sums();
        requests(&sums, &mut families)?;
        let held = self.server.census();
        for (name, help, count) in [
            (
                "connections",
                "Clients that are connected",
                held.connections,
            ),
            ("channels", "Channels that are served", held.channels),
            ("ids", "Ids that clients hold", held.ids),
            (
                "objects",
                "What ids stand for, or what lives on without",
                held.objects,
            ),
            (
                "descriptors",
                "Descriptors of the host that are open for clients",
                held.descriptors,
            ),
        ] {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            families.gauge(name, help, count)?;
        }
        waits(&self.server.wait_stats(), &mut families)?;
        families.gauges(
            "sandbox_layer",
            "Whether a layer of the sandbox around this process is there",
            self.sandbox
                .iter()
                .map(|(layer, there)| ([("layer", *layer)], u64::from(*there))),
        )?;
        families.gauges(
            "build",
            "The version that this is, as a label",
            [([("version", env!("CARGO_PKG_VERSION"))], 1)],
        )
    }
}

fn requests(sums: &Sums, families: &mut Families<'_>) -> fmt::Result {
    let transports = [
        (Transport::Channel, "channel"),
        (Transport::Socket, "socket"),
    ];
    let served = (0..MESSAGE_COUNT).flat_map(|message| {
        transports.map(|(transport, name)| {
            let labels = [("message", message_name(message)), ("transport", name)];
            (labels, sums.of(transport).requests(message))
        })
    });
    families.counters(
        "requests",
        "Requests that were answered, by message and by how they came",
        served.filter(|(_, count)| *count > 0),
    )?;
    let all = super::Sheet::default();
    all.add(&sums.socket);
    all.add(&sums.channel);
    let errors = all.errors().map(|(errno, count)| {
        let name = errno.map_or_else(|| "other".to_owned(), |errno| format!("{errno:?}"));
        ([("errno", name)], count)
    });
    families.counters("errors", "Requests that failed, by error", errors)?;
    let mut histogram = families.0.encode_descriptor(
        "request_duration",
        "How long requests took, from their arrival to their reply. Of a kind that is frequent \
         one in 32 is timed and counts 32 times",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for message in (0..MESSAGE_COUNT).filter(|message| all.requests(*message) > 0) {
        let latency = all.latency(message);
        let buckets = latency.buckets();
        let count = buckets.iter().map(|(_, count)| count).sum();
        histogram
            .encode_family(&[("message", message_name(message))])?
            .encode_histogram::<NoLabelSet>(latency.seconds(), count, &buckets, None)?;
    }
    families.counter(
        "read",
        "Bytes that were read through this process; those read from donated descriptors are not known",
        &Unit::Bytes,
        all.read(),
    )?;
    families.counter(
        "written",
        "Bytes that were written through this process",
        &Unit::Bytes,
        all.written(),
    )
}

fn waits(waits: &WaitStats, families: &mut Families<'_>) -> fmt::Result {
    let events = [
        ("park", waits.parks),
        ("wake", waits.wakes),
        ("elided_wake", waits.elided_wakes),
        ("spin_hit", waits.spin_hits),
        ("spin_miss", waits.spin_misses),
        ("move", waits.moves),
    ];
    families.counters(
        "channel_waits",
        "What waiting for requests on channels came to: sleeps, wakes of clients and those that \
         were not needed, polling that ended with a request or without, moves to another CPU",
        events.map(|(event, count)| ([("event", event)], count)),
    )
}

/// The message with this number.
fn message_name(number: usize) -> &'static str {
    let mid = u16::try_from(number).map(Mid).ok();
    mid.and_then(Mid::message)
        .map_or("unknown", |message| message.name)
}

/// Writes families of numbers.
struct Families<'e>(DescriptorEncoder<'e>);

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, unit: &Unit, count: u64) -> fmt::Result {
        let kind = MetricType::Counter;
        let family = self.0.encode_descriptor(name, help, Some(unit), kind)?;
        ConstCounter::new(count).encode(family)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let kind = MetricType::Gauge;
        let family = self.0.encode_descriptor(name, help, None, kind)?;
        ConstGauge::new(value).encode(family)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.labelled(name, help, MetricType::Counter, samples, ConstCounter::new)
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.labelled(name, help, MetricType::Gauge, samples, ConstGauge::new)
    }

    fn labelled<L: EncodeLabelSet, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (L, u64)>,
        metric: impl Fn(u64) -> M,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            metric(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
