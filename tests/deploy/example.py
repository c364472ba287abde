"""A template that has one of everything that a release has to tell apart."""

import copy
import datetime
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True  # the directory of the hook is deployed as it is
sys.path[:0] = [str(ROOT / "deploy"), str(ROOT / "deploy/verify")]

import template as t  # noqa: E402

NOW = datetime.datetime(2026, 11, 26, 7, 3, 31, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(minutes=7)

SOURCE = """
AWSTemplateFormatVersion: '2010-09-09'
Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]
Parameters:
  Origins: {Type: String, Default: 'https://app.example.com'}
  Minutes: {Type: Number, Default: 60}
  Key: {Type: String, Default: blue}
  AlarmEmail: {Type: String, Default: ''}
  Restart: {Type: Number, Default: 1}
  DeploymentType: {Type: String, Default: Canary10Percent5Minutes}
Conditions:
  Blue: !Equals [!Ref Key, blue]
  SignWithBlue: !Or [!Condition Blue, !Condition Blue]
Globals:
  Function:
    Runtime: provided.al2023
    Handler: bootstrap
    Timeout: 15
    Environment:
      Variables: {REVISION: unstamped}
  HttpApi: {FailOnWarnings: true}
Resources:
  Login:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: !Sub ${AWS::StackName}-login
      CodeUri: s3://bucket/people-staging/login1
      Role: !GetAtt LoginRole.Arn
      AutoPublishAlias: live
      DeploymentPreference: {Type: !Ref DeploymentType, Alarms: [!Ref LoginErrorsAlarm], Hooks: {PreTraffic: !Ref Verify}}
      Environment: {Variables: {MINUTES: !Ref Minutes, KEY: !If [SignWithBlue, '1', '2']}}
      Events:
        Route: {Type: HttpApi, Properties: {Method: POST, Path: /auth/login}}
  Me:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: s3://bucket/people-staging/me1
      AutoPublishAlias: live
      DeploymentPreference: {Type: !Ref DeploymentType, Alarms: [!Ref MeErrorsAlarm], Hooks: {PreTraffic: !Ref Verify}}
      Environment: {Variables: {ORIGINS: !Sub 'a ${Origins} ${AWS::Region} ${!literal}'}}
  Docs:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: s3://bucket/people-staging/docs1, AutoPublishAlias: live, Environment: !Ref 'AWS::NoValue'}
  Purge:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: s3://bucket/people-staging/purge1}
  Migrate:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: s3://bucket/people-staging/migrate1}
  Verify:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: s3://bucket/people-staging/verify1}
  LoginRole: {Type: AWS::IAM::Role}
  Fn::ForEach::Alarms:
    - Name
    - [Login, Me]
    - '${Name}ErrorsAlarm': {Type: AWS::CloudWatch::Alarm}
"""


def new(**code):
    """The template of a build, packaged: with other code of these functions."""
    template = t.expanded(t.parsed(SOURCE))
    for name, address in code.items():
        template["Resources"][name]["Properties"]["CodeUri"] = f"s3://bucket/people-staging/{address}"
    return t.with_notes(template, Migrations=["0001_users.sql"])


VALUES = t.values_of(new(), {})
ALL = set(new()["Resources"]) - {"Fn::ForEach::Alarms"}


def deployed(values=VALUES, build="v1"):
    """What the first deployment left."""
    template = new()
    for name, function in t.functions(template).items():
        template["Resources"][name] = t.stamped(function, template, values, NOW)
        t.note(template, name, Build=build)
    return template


def live(template):
    """The REVISION of each alias."""
    return {name: revision(template, name) for name, function in t.functions(template).items() if t.has_alias(function)}


def properties(template, name):
    return t.functions(template)[name]["Properties"]


def revision(template, name):
    return properties(template, name)["Environment"]["Variables"]["REVISION"]


def without(template, *names):
    """The template but for these functions: what must not have changed."""
    template = copy.deepcopy(template)
    for name in names:
        del template["Resources"][name]
    template.pop("Metadata", None)
    return template
