//! Percentiles and counts above a threshold, which moto cannot answer: they are computed from the values that the metrics agent
//! keeps.

use serde_json::{Value, json};

use super::{ApiRequest, ApiResponse, Shared};
use crate::data_plane::ResponseTimes;

impl Shared {
    /// Answers `GetMetricData`: moto what it can, what needs the response times themselves from these.
    pub(super) async fn ask_cloud_watch(&self, mut request: ApiRequest) -> ApiResponse {
        let Ok(mut question) = serde_json::from_slice::<Value>(&request.body) else {
            return self.pass_on(request).await;
        };
        let asked = match question.get_mut("MetricDataQueries") {
            Some(Value::Array(queries)) => std::mem::take(queries),
            _ => Vec::new(),
        };
        if let Some(stat) = asked.iter().find_map(unsupported) {
            let message = format!("The value {stat} for parameter Stat is not supported.");
            return ApiResponse::error(400, "ValidationError", &message);
        }
        let (own, others): (Vec<Value>, Vec<Value>) = asked
            .iter()
            .cloned()
            .partition(|query| statistic(query).is_some());
        if own.is_empty() {
            return self.pass_on(request).await;
        }
        let mut response = ApiResponse::json(&json!({"MetricDataResults": [], "Messages": []}));
        if !others.is_empty() {
            question["MetricDataQueries"] = Value::Array(others);
            request.body = question.to_string().into();
            response = self.pass_on(request).await;
            if !response.status.is_success() {
                return response;
            }
        }
        let Ok(mut answer) = serde_json::from_slice::<Value>(&response.body) else {
            return response;
        };
        let nothing = ResponseTimes::default();
        let times = self.response_times.get().map_or(&nothing, |times| &**times);
        if let Some(results) = answer["MetricDataResults"].as_array_mut() {
            results.extend(
                own.iter()
                    .filter_map(|query| result(query, &question, times)),
            );
            // In the order of the questions.
            results
                .sort_by_key(|result| asked.iter().position(|query| query["Id"] == result["Id"]));
        }
        response.body = answer.to_string().into();
        response
    }
}

/// What is computed from the values themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Statistic {
    /// 99.9 for `p99.9`.
    Percentile(f64),
    /// `TC(0.1:0.5)`: how many are above the one bound, which is not among them, and up to the other, which is.
    TrimmedCount(Option<f64>, Option<f64>),
    /// How many there are; of the response times only, so that it is of the same values.
    SampleCount,
}

/// The statistic that a query asks for, if it is one of these.
fn statistic(query: &Value) -> Option<Statistic> {
    let stat = query["MetricStat"]["Stat"].as_str()?;
    if stat == "SampleCount" && is_response_time(&query["MetricStat"]["Metric"]) {
        return Some(Statistic::SampleCount);
    }
    if let Some(rank) = stat.strip_prefix('p') {
        let rank: f64 = rank.parse().ok()?;
        return (0.0..=100.0)
            .contains(&rank)
            .then_some(Statistic::Percentile(rank));
    }
    trimmed_count(stat)
}

/// The bounds of `TC(0.1:)`, `TC(:0.1)` or `TC(0.1:0.5)`: numbers with at most ten decimals.
fn trimmed_count(stat: &str) -> Option<Statistic> {
    let bounds = stat.strip_prefix("TC(")?.strip_suffix(')')?;
    let (above, up_to) = bounds.split_once(':')?;
    let bound = |text: &str| -> Option<Option<f64>> {
        if text.is_empty() {
            return Some(None);
        }
        let decimals = text.split_once('.').map_or("", |(_, decimals)| decimals);
        let is_number = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        (is_number && decimals.len() <= 10).then(|| text.parse().ok())
    };
    let (above, up_to) = (bound(above)?, bound(up_to)?);
    (above.is_some() || up_to.is_some()).then_some(Statistic::TrimmedCount(above, up_to))
}

/// A trimmed count that CloudWatch would refuse; percentages are not known here.
fn unsupported(query: &Value) -> Option<&str> {
    let stat = query["MetricStat"]["Stat"].as_str()?;
    (stat.starts_with("TC") && trimmed_count(stat).is_none()).then_some(stat)
}

fn is_response_time(metric: &Value) -> bool {
    metric["Namespace"] == "AWS/ApplicationELB" && metric["MetricName"] == "TargetResponseTime"
}

impl Statistic {
    /// Of the values of a period; `None` where there is nothing to say. A count of none is not given: AWS does not document that
    /// it is a zero.
    fn of(self, values: Vec<f64>) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "few values")]
        let some = |number: usize| (number > 0).then_some(number as f64);
        match self {
            Self::Percentile(rank) => at_rank(values, rank),
            Self::SampleCount => some(values.len()),
            Self::TrimmedCount(above, up_to) => {
                let inside = values.iter().filter(|value| {
                    above.is_none_or(|bound| **value > bound)
                        && up_to.is_none_or(|bound| **value <= bound)
                });
                some(inside.count())
            }
        }
    }
}

/// The answer to one query: a value for each period in which there were any, counted from the beginning of the window.
fn result(query: &Value, question: &Value, times: &ResponseTimes) -> Option<Value> {
    let statistic = statistic(query)?;
    let metric = &query["MetricStat"]["Metric"];
    let (start, end) = (
        moment(&question["StartTime"])?,
        moment(&question["EndTime"])?,
    );
    let period = query["MetricStat"]["Period"].as_i64().unwrap_or(60).max(1);
    let name = metric["MetricName"].as_str().unwrap_or_default();
    let is_response_time = is_response_time(metric);
    let mut found = Vec::new();
    let mut begin = start;
    while is_response_time && begin < end {
        let values = times.between(&metric["Dimensions"], begin, (begin + period).min(end));
        if let Some(value) = statistic.of(values) {
            found.push((begin, value));
        }
        begin += period;
    }
    if question["ScanBy"] != "TimestampAscending" {
        found.reverse();
    }
    let (moments, values): (Vec<i64>, Vec<f64>) = found.into_iter().unzip();
    Some(json!({
        "Id": query["Id"],
        "Label": query["Label"].as_str().unwrap_or(name),
        "Timestamps": moments,
        "Values": values,
        "StatusCode": "Complete",
    }))
}

/// The smallest value that is not exceeded by so many percent of all values.
fn at_rank(mut values: Vec<f64>, percent: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank between 0 and the number of values"
    )]
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

/// A moment in seconds since 1970; the JSON protocol writes it as a number.
fn moment(value: &Value) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "seconds of this age fit easily"
    )]
    let seconds = value.as_f64()?.floor() as i64;
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Statistic, at_rank, statistic, unsupported};

    #[test]
    fn a_percentile_is_the_value_at_its_rank() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(at_rank(values.clone(), 99.0), Some(198.0));
        assert_eq!(at_rank(values.clone(), 100.0), Some(200.0));
        assert_eq!(at_rank(values, 0.0), Some(1.0));
        assert_eq!(at_rank(Vec::new(), 50.0), None);
    }

    #[test]
    fn only_what_needs_the_values_themselves_is_taken_from_moto() {
        let stat = |stat: &str| statistic(&json!({"MetricStat": {"Stat": stat}}));
        assert_eq!(stat("p99.9"), Some(Statistic::Percentile(99.9)));
        assert_eq!(stat("Sum"), None);
        assert_eq!(stat("p999"), None);
        assert_eq!(stat("SampleCount"), None, "of any other metric");
        let above = Statistic::TrimmedCount(Some(0.182), None);
        assert_eq!(stat("TC(0.182:)"), Some(above));
    }

    #[test]
    fn a_trimmed_count_is_of_what_is_above_its_first_bound_and_not_above_its_second() {
        let count = |stat: &str| {
            let statistic = statistic(&json!({"MetricStat": {"Stat": stat}})).unwrap();
            statistic.of(vec![0.1, 0.2, 0.2, 0.3])
        };
        assert_eq!(count("TC(0.1:)"), Some(3.0));
        assert_eq!(count("TC(:0.2)"), Some(3.0));
        assert_eq!(count("TC(0.1:0.2)"), Some(2.0));
        assert_eq!(count("TC(0.3:)"), None);
        for stat in [
            "TC(:)",
            "TC(0.1)",
            "TC(-1:2)",
            "TC(0.12345678901:)",
            "TC(0.1:",
        ] {
            let query = json!({"MetricStat": {"Stat": stat}});
            assert_eq!(unsupported(&query), Some(stat));
        }
        assert_eq!(unsupported(&json!({"MetricStat": {"Stat": "Sum"}})), None);
    }
}
