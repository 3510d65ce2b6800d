//! What a gofer had done at a moment.

use std::collections::BTreeMap;

/// The numbers of one scrape, as far as they are shown.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// Requests by message.
    pub(super) requests: BTreeMap<String, f64>,
    /// Requests by how they came.
    pub(super) transports: BTreeMap<String, f64>,
    /// Of each message, how many took no longer than so many seconds.
    pub(super) latency: BTreeMap<String, Vec<(f64, f64)>>,
    pub(super) errors: BTreeMap<String, f64>,
    pub(super) waits: BTreeMap<String, f64>,
    /// What has no labels.
    pub(super) plain: BTreeMap<String, f64>,
}

impl Sample {
    /// Reads the text format. What is not known is not looked at.
    pub(super) fn parse(text: &str) -> Sample {
        let mut sample = Sample::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, labels, value)) = parse_line(line) {
                sample.add(name, &labels, value);
            }
        }
        sample
    }

    /// Whether anything was counted that is not in `later`: another process has begun to count in
    /// between.
    pub(super) fn is_ahead_of(&self, later: &Sample) -> bool {
        let less = |before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>| {
            let mut counts = before.iter();
            counts.any(|(name, count)| after.get(name).is_none_or(|now| now < count))
        };
        // What clients hold comes and goes.
        let bytes = |sample: &Sample| {
            let mut bytes = sample.plain.clone();
            bytes.retain(|name, _| name.ends_with("_total"));
            bytes
        };
        less(&self.requests, &later.requests)
            || less(&self.errors, &later.errors)
            || less(&bytes(self), &bytes(later))
    }

    fn add(&mut self, name: &str, labels: &BTreeMap<&str, &str>, value: f64) {
        let label = |key| labels.get(key).copied().unwrap_or_default();
        let mut add = |to: fn(&mut Sample) -> &mut BTreeMap<String, f64>, key: &str| {
            *to(self).entry(key.to_owned()).or_default() += value;
        };
        match name {
            "requests_total" => {
                add(|sample| &mut sample.requests, label("message"));
                add(|sample| &mut sample.transports, label("transport"));
            }
            "errors_total" => add(|sample| &mut sample.errors, label("errno")),
            "channel_waits_total" => add(|sample| &mut sample.waits, label("event")),
            "request_duration_seconds_bucket" => {
                let bound = label("le").parse().unwrap_or(f64::INFINITY);
                let buckets = self.latency.entry(label("message").to_owned());
                buckets.or_default().push((bound, value));
            }
            _ if labels.is_empty() => add(|sample| &mut sample.plain, name),
            _ => {}
        }
    }
}

/// `lisafs_NAME{KEY="VALUE",…} NUMBER`. No value of a gofer holds a quote or a comma.
fn parse_line(line: &str) -> Option<(&str, BTreeMap<&str, &str>, f64)> {
    let (series, value) = line.strip_prefix("lisafs_")?.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let labels = labels.split(',').filter_map(|label| {
        let (key, value) = label.split_once('=')?;
        Some((key, value.trim_matches('"')))
    });
    Some((name, labels.collect(), value.parse().ok()?))
}

/// The time that this part of the requests between two scrapes has taken at the most, in seconds,
/// estimated from how many are in each bucket. `None` if there were none.
pub(super) fn quantile(before: &[(f64, f64)], after: &[(f64, f64)], part: f64) -> Option<f64> {
    let earlier = |bound: f64| {
        let mut buckets = before.iter();
        buckets
            .find(|(other, _)| *other == bound)
            .map_or(0.0, |(_, count)| *count)
    };
    let counts = || {
        after
            .iter()
            .map(|(bound, count)| (*bound, count - earlier(*bound)))
    };
    let all = counts().map(|(_, count)| count).fold(0.0, f64::max);
    if all <= 0.0 {
        return None;
    }
    let wanted = all * part;
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in counts() {
        if count >= wanted && count > below {
            // Longer than the longest bound is all that is known then.
            return Some(if bound.is_finite() {
                low + (bound - low) * (wanted - below) / (count - below)
            } else {
                low
            });
        }
        (low, below) = (bound, count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE lisafs_requests counter
lisafs_requests_total{message=\"Walk\",transport=\"channel\"} 10
lisafs_requests_total{message=\"Walk\",transport=\"socket\"} 2
lisafs_errors_total{errno=\"ENOENT\"} 3
lisafs_request_duration_seconds_sum{message=\"Walk\"} 0.5
lisafs_request_duration_seconds_bucket{le=\"0.001\",message=\"Walk\"} 4
lisafs_request_duration_seconds_bucket{le=\"+Inf\",message=\"Walk\"} 12
lisafs_channel_waits_total{event=\"park\"} 7
lisafs_read_bytes_total 4096
lisafs_new_thing{a=\"b\"} 1
nonsense
# EOF
";

    #[test]
    fn the_text_of_a_gofer_is_read() {
        let sample = Sample::parse(TEXT);
        assert_eq!(sample.requests["Walk"], 12.0);
        assert_eq!(sample.transports["channel"], 10.0);
        assert_eq!(sample.errors["ENOENT"], 3.0);
        assert_eq!(sample.waits["park"], 7.0);
        assert_eq!(sample.plain["read_bytes_total"], 4096.0);
        let buckets = [(0.001, 4.0), (f64::INFINITY, 12.0)];
        assert_eq!(sample.latency["Walk"], buckets);
    }

    #[test]
    fn quantiles_are_of_what_came_in_between() {
        let before = [(1.0, 100.0), (2.0, 100.0), (f64::INFINITY, 100.0)];
        let after = [(1.0, 100.0), (2.0, 110.0), (f64::INFINITY, 110.0)];
        assert_eq!(quantile(&before, &after, 0.5), Some(1.5));
        assert_eq!(quantile(&[], &before, 0.5), Some(0.5));
        assert_eq!(quantile(&after, &after, 0.5), None);
        let long = [(1.0, 0.0), (2.0, 0.0), (f64::INFINITY, 1.0)];
        assert_eq!(quantile(&[], &long, 0.99), Some(2.0));
    }
}
