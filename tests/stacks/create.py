"""Creates a template's stack in moto's CloudFormation and says what came of it, as JSON.

On standard input: {"region": "...", "template": "its text", "parameters": {...}, "events": [...]}. A parameter may be {vpc},
{subnet} or {securityGroup}. What moto's CloudFormation does not know is created by the service's own API instead, in the names of
botocore's model: a member that the model does not have, or a value that it does not allow, is an error.
"""

import ast
import json
import logging
import os
import sys
import warnings

os.environ.update(AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none")

import boto3
from moto import mock_aws
from moto.core.common_models import CloudFormationModel
from moto.events.models import EventPattern

STACK = "example"


def in_words_of(shape, value, path):
    """A resource's properties as the API has them: members in its spelling, numbers and truths as such."""
    if shape.type_name == "structure":
        members = {name.lower(): name for name in shape.members}
        unknown = [name for name in value if name.lower() not in members]
        assert not unknown, f"{path} has no {', '.join(unknown)}"
        return {
            members[name.lower()]: in_words_of(shape.members[members[name.lower()]], member, f"{path}.{name}")
            for name, member in value.items()
        }
    if shape.type_name == "list":
        return [in_words_of(shape.member, item, f"{path}[]") for item in value]
    if shape.type_name == "map":
        return {key: in_words_of(shape.value, item, f"{path}.{key}") for key, item in value.items()}
    if shape.type_name in ("integer", "long"):
        return int(value)
    if shape.type_name in ("double", "float"):
        return float(value)
    if shape.type_name == "boolean":
        return value in (True, "true")
    allowed = shape.metadata.get("enum")
    assert not allowed or value in allowed, f"{path}: {value} is none of {', '.join(allowed)}"
    return value


def stand_in(kind, service, operation, identify, within=None, prepare=lambda properties: properties, attribute=None):
    """Teaches moto's CloudFormation a type of resource; `within` is the member of the request that has the properties."""

    class StandIn(CloudFormationModel):
        __module__ = f"moto.{service}.models"  # moto reads the service from it

        def __init__(self, name, properties):
            self.physical_resource_id = name
            self.properties = properties

        @staticmethod
        def cloudformation_name_type():
            return ""

        @staticmethod
        def cloudformation_type():
            return kind

        @classmethod
        def has_cfn_attr(cls, attr):
            return attr == attribute

        def get_cfn_attribute(self, attr):
            assert attr == attribute
            return self.arn

        @classmethod
        def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs):
            client = boto3.client(service)
            call = client.meta.method_to_api_mapping[operation]
            shape = client.meta.service_model.operation_model(call).input_shape
            properties = prepare(cloudformation_json["Properties"])
            request = in_words_of(shape, {within: properties} if within else properties, kind)
            response = getattr(client, operation)(**request)
            created = cls(identify(request), request)
            created.arn = response["project"]["arn"] if attribute else None
            USED.append(kind)
            return created

        def delete(self, *_):
            pass


def policy(properties):
    """A policy document is text where the API wants it."""
    return {"Bucket": properties["Bucket"], "Policy": json.dumps(properties["PolicyDocument"])}


def project(properties):
    """moto wants to know where the source and the artifacts are, even when the pipeline hands them over."""
    return properties | {name: properties[name] | {"Location": "pipeline"} for name in ("Source", "Artifacts")}


def queue_policy(properties):
    [queue] = properties["Queues"]
    return {"QueueUrl": queue, "Attributes": {"Policy": json.dumps(properties["PolicyDocument"])}}


USED = []
stand_in("AWS::CodePipeline::Pipeline", "codepipeline", "create_pipeline", lambda r: r["pipeline"]["name"], within="pipeline")
stand_in("AWS::CodeBuild::Project", "codebuild", "create_project", lambda r: r["name"], prepare=project, attribute="Arn")
stand_in("AWS::CloudWatch::Alarm", "cloudwatch", "put_metric_alarm", lambda r: r["AlarmName"])
stand_in("AWS::S3::BucketPolicy", "s3", "put_bucket_policy", lambda r: r["Bucket"], prepare=policy)
stand_in("AWS::SQS::QueuePolicy", "sqs", "set_queue_attributes", lambda r: r["QueueUrl"], prepare=queue_policy)


def environment():
    """What the examples expect to be there, by the names that parameters use."""
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    boto3.client("ecs").create_cluster(clusterName="prod")
    return {
        "{vpc}": vpc,
        "{subnet}": ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"],
        "{securityGroup}": ec2.create_security_group(GroupName="envoys", Description="envoys", VpcId=vpc)["GroupId"],
    }


def rules(events):
    """The rules, with their targets and the numbers of the events that they match."""
    client = boto3.client("events")
    for rule in client.list_rules()["Rules"]:
        matches = [
            number
            for number, event in enumerate(events)
            if EventPattern.load(rule["EventPattern"]).matches_event(event)
        ]
        targets = client.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        yield {"arn": rule["Arn"], "targets": targets, "matches": matches}


def roles():
    """What each role of the stack is allowed, and who may take it on."""
    iam = boto3.client("iam")
    for role in iam.list_roles()["Roles"]:
        names = iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
        documents = [iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"] for name in names]
        # moto gives the template's policies as Python writes them.
        documents = [ast.literal_eval(document) if isinstance(document, str) else document for document in documents]
        # And it leaves a null where AWS leaves nothing.
        statements = [statement for document in documents for statement in document["Statement"] if statement]
        trust = role["AssumeRolePolicyDocument"]["Statement"]
        yield role["RoleName"], {"allows": statements, "trusts": trust}


def security_groups():
    groups = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    return {
        group["GroupId"]: {"in": group["IpPermissions"]}  # moto does not read a template's rules for what goes out
        for group in groups
        if group["GroupName"] != "default"
    }


def created(region, template, parameters, events):
    os.environ["AWS_DEFAULT_REGION"] = region
    names = environment()
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=template,
        Parameters=[
            {"ParameterKey": key, "ParameterValue": names.get(value, value)} for key, value in parameters.items()
        ],
        Capabilities=["CAPABILITY_IAM"],
    )
    [stack] = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    codepipeline = boto3.client("codepipeline")
    return {
        "status": stack["StackStatus"],
        "outputs": {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])},
        "resources": {
            resource["LogicalResourceId"]: {"type": resource["ResourceType"], "id": resource["PhysicalResourceId"]}
            for resource in cloudformation.list_stack_resources(StackName=STACK)["StackResourceSummaries"]
        },
        "standIns": sorted(USED),
        "pipelines": [
            codepipeline.get_pipeline(name=pipeline["name"])["pipeline"]
            for pipeline in codepipeline.list_pipelines()["pipelines"]
        ],
        "rules": list(rules(events)),
        "roles": dict(roles()),
        "securityGroups": security_groups(),
        "parameters": {
            parameter["Name"]: boto3.client("ssm").get_parameter(Name=parameter["Name"])["Parameter"]["Value"]
            for parameter in boto3.client("ssm").describe_parameters()["Parameters"]
        },
    }


warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=DeprecationWarning)
logging.getLogger("moto").setLevel(logging.ERROR)
with mock_aws():
    json.dump(created(**json.load(sys.stdin)), sys.stdout, default=str)
