//! Links into the console, from the ARN of an execution: its partition and Region say where the console is.

use serin::{Deployment, ExecutionArn};

/// Where the console of an execution's partition and Region is.
pub(crate) struct Console<'a> {
    domain: &'static str,
    region: &'a str,
    execution: &'a str,
    machine: &'a str,
}

impl<'a> Console<'a> {
    /// The console of an execution, if its ARN is one.
    pub(crate) fn of(execution: &'a ExecutionArn) -> Option<Self> {
        let execution = execution.as_str();
        let mut parts = execution.splitn(8, ':');
        let (Some("arn"), Some(partition), Some("states")) =
            (parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let region = parts.next()?;
        let machine = parts.nth(2)?;
        parts.next()?;
        let domain = match partition {
            "aws" => "console.aws.amazon.com",
            "aws-cn" => "console.amazonaws.cn",
            "aws-us-gov" => "console.amazonaws-us-gov.com",
            _ => return None,
        };
        Some(Self {
            domain,
            region,
            execution,
            machine,
        })
    }

    fn page(&self, path: &str) -> String {
        let Self { domain, region, .. } = self;
        format!("https://{region}.{domain}/{path}")
    }

    /// The execution.
    pub(crate) fn execution(&self) -> String {
        let Self {
            region, execution, ..
        } = self;
        self.page(&format!(
            "states/home?region={region}#/v2/executions/details/{execution}"
        ))
    }

    /// An ECS service of the deployment.
    pub(crate) fn service(&self, deployment: &Deployment, service: &serin::ServiceName) -> String {
        let (region, cluster) = (self.region, deployment.cluster());
        self.page(&format!(
            "ecs/v2/clusters/{cluster}/services/{service}/health?region={region}"
        ))
    }

    /// The log of every state of the state machine's executions.
    pub(crate) fn logs(&self) -> String {
        let Self {
            region, machine, ..
        } = self;
        // The console wants a log group's name with its slashes escaped twice, and a dollar for the percent sign.
        self.page(&format!(
            "cloudwatch/home?region={region}#logsV2:log-groups/log-group/$252Faws$252Fvendedlogs$252Fstates$252F{machine}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_that_of_the_partition_and_region() {
        let cases = [
            ("aws", "https://eu-west-1.console.aws.amazon.com/"),
            ("aws-cn", "https://eu-west-1.console.amazonaws.cn/"),
            (
                "aws-us-gov",
                "https://eu-west-1.console.amazonaws-us-gov.com/",
            ),
        ];
        for (partition, start) in cases {
            let arn = format!("arn:{partition}:states:eu-west-1:1:execution:serin-canary:one");
            let execution = ExecutionArn::new(&arn);
            let console = Console::of(&execution).unwrap();
            assert_eq!(
                console.execution(),
                format!("{start}states/home?region=eu-west-1#/v2/executions/details/{arn}")
            );
            assert!(console.logs().starts_with(start));
            assert!(console.logs().ends_with("states$252Fserin-canary"));
        }
        for other in [
            "arn:aws-iso:states:x:1:execution:m:n",
            "nothing",
            "arn:aws:ecs:x:1:service:a:b",
        ] {
            assert!(Console::of(&ExecutionArn::new(other)).is_none(), "{other}");
        }
    }
}
