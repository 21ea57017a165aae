//! Percentiles, which moto cannot answer: they are computed from the values that the metrics agent keeps.

use serde_json::{Value, json};

use super::{ApiRequest, ApiResponse, Shared};
use crate::data_plane::ResponseTimes;

impl Shared {
    /// Answers `GetMetricData`: moto what it can, percentiles of the response time from the values themselves.
    pub(super) async fn ask_cloud_watch(&self, mut request: ApiRequest) -> ApiResponse {
        let Ok(mut question) = serde_json::from_slice::<Value>(&request.body) else {
            return self.pass_on(request).await;
        };
        let asked = match question.get_mut("MetricDataQueries") {
            Some(Value::Array(queries)) => std::mem::take(queries),
            _ => Vec::new(),
        };
        let (percentiles, others): (Vec<Value>, Vec<Value>) = asked
            .iter()
            .cloned()
            .partition(|query| percentile(query).is_some());
        if percentiles.is_empty() {
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
                percentiles
                    .iter()
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

/// The percentile that a query asks for: 99.9 for `p99.9`.
fn percentile(query: &Value) -> Option<f64> {
    let stat = query["MetricStat"]["Stat"].as_str()?;
    let rank: f64 = stat.strip_prefix('p')?.parse().ok()?;
    (0.0..=100.0).contains(&rank).then_some(rank)
}

/// The answer to one query: a value for each period in which there were any, counted from the beginning of the window.
fn result(query: &Value, question: &Value, times: &ResponseTimes) -> Option<Value> {
    let rank = percentile(query)?;
    let metric = &query["MetricStat"]["Metric"];
    let (start, end) = (
        moment(&question["StartTime"])?,
        moment(&question["EndTime"])?,
    );
    let period = query["MetricStat"]["Period"].as_i64().unwrap_or(60).max(1);
    let name = metric["MetricName"].as_str().unwrap_or_default();
    let is_response_time =
        metric["Namespace"] == "AWS/ApplicationELB" && name == "TargetResponseTime";
    let mut found = Vec::new();
    let mut begin = start;
    while is_response_time && begin < end {
        let values = times.between(&metric["Dimensions"], begin, (begin + period).min(end));
        if let Some(value) = at_rank(values, rank) {
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

    use super::{at_rank, percentile};

    #[test]
    fn a_percentile_is_the_value_at_its_rank() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(at_rank(values.clone(), 99.0), Some(198.0));
        assert_eq!(at_rank(values.clone(), 100.0), Some(200.0));
        assert_eq!(at_rank(values, 0.0), Some(1.0));
        assert_eq!(at_rank(Vec::new(), 50.0), None);
    }

    #[test]
    fn only_percentiles_are_taken_from_moto() {
        let stat = |stat: &str| percentile(&json!({"MetricStat": {"Stat": stat}}));
        assert_eq!(stat("p99.9"), Some(99.9));
        assert_eq!(stat("Sum"), None);
        assert_eq!(stat("p999"), None);
    }
}
