//! Requests, good and bad, and what AWS says of the bad ones: texts recorded from it where there are some.

use super::*;
use serde_json::json;

fn told(operation: &str, request: Value) -> Option<String> {
    let request = request.as_object().unwrap();
    check(operation, request, &Bounds::default()).err().map(|fault| fault.message().to_owned())
}

fn function(more: Value) -> Value {
    let mut request = json!({ "FunctionName": "f", "Role": "arn:aws:iam::000000000000:role/service/r", "Code": {},
        "Runtime": "python3.11", "Handler": "app.handler" });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

#[test]
fn the_table_is_whole_and_its_patterns_can_be_read() {
    assert!(MODEL.operations.len() > 90 && MODEL.shapes.len() > 250);
    for (name, operation) in &MODEL.operations {
        assert!(MODEL.shapes.contains_key(&operation.input), "{name}");
    }
    for (name, shape) in &MODEL.shapes {
        assert_eq!(shape.pattern.is_some(), shape.has_pattern(), "{name}");
        for part in shape.members.iter().map(|(_, member)| member.shape()) {
            assert!(part.is_some(), "{name}");
        }
    }
}

#[test]
fn what_aws_takes_is_taken() {
    let rich = json!({
        "Timeout": 900, "MemorySize": 10240, "Environment": { "Variables": { "LEVEL": "1", "a_": "" } }, "Layers": [],
        "VpcConfig": { "SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"] }, "Novelty": [{ "any": 1 }],
        "DurableConfig": { "ExecutionTimeout": 1 }, "Tags": { "käse": "b c" }, "Publish": true, "Description": null,
        "DeadLetterConfig": { "TargetArn": "" }, "KMSKeyArn": "", "Architectures": ["arm64"],
    });
    assert_eq!(told("CreateFunction", function(rich)), None);
    assert_eq!(told("CreateAlias", json!({ "Name": "a1", "FunctionVersion": "$LATEST" })), None);
    assert_eq!(told("Novelty", json!({})), None);
}

#[test]
fn broken_rules_are_told_in_awss_words() {
    let refused = [
        (
            "CreateFunction",
            function(json!({ "Role": "r1" })),
            "'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+",
        ),
        (
            "CreateFunction",
            function(json!({ "SnapStart": { "ApplyOn": "invalidOption" } })),
            "'invalidOption' at 'snapStart.applyOn' failed to satisfy constraint: Member must satisfy enum value set: [PublishedVersions, None]",
        ),
        (
            "CreateFunction",
            function(json!({ "Architectures": ["X86_64"] })),
            "'[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
        ),
        (
            "CreateFunction",
            function(json!({ "Architectures": ["x86_64", "arm64"] })),
            "'[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1",
        ),
        (
            "CreateFunction",
            function(json!({ "VpcConfig": { "SubnetIds": ["bad"] } })),
            "'[bad]' at 'vpcConfig.subnetIds' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: subnet-[0-9a-z]*, Member must not be null]",
        ),
        (
            "CreateFunction",
            function(json!({ "Timeout": 901 })),
            "'901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900",
        ),
        (
            "CreateFunction",
            function(json!({ "Layers": ["arn:aws:lambda:us-east-1:111111111111:layer:l"] })),
            "'[arn:aws:lambda:us-east-1:111111111111:layer:l]' at 'layers' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 2048, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:\\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+), Member must not be null]",
        ),
        (
            "CreateFunction",
            function(json!({ "Environment": { "Variables": { "1A": "secret" } } })),
            "at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]",
        ),
    ];
    all_are_refused(refused);
}

#[test]
fn broken_rules_of_other_requests_too() {
    let refused = [
        (
            "CreateAlias",
            json!({ "Name": "2024", "FunctionVersion": "1" }),
            "'2024' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)",
        ),
        (
            "CreateAlias",
            json!({ "Name": "a", "FunctionVersion": "1", "RoutingConfig": { "AdditionalVersionWeights": { "2": 2 } } }),
            "'{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]",
        ),
        (
            "CreateAlias",
            json!({ "Name": "a", "FunctionVersion": "1", "RoutingConfig": { "AdditionalVersionWeights": { "$LATEST": 0.5 } } }),
            "'{$LATEST=0.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+]",
        ),
        (
            "CreateFunctionUrlConfig",
            json!({ "AuthType": "NONE", "InvokeMode": "UNKNOWN" }),
            "'UNKNOWN' at 'invokeMode' failed to satisfy constraint: Member must satisfy enum value set: [RESPONSE_STREAM, BUFFERED]",
        ),
        (
            "CreateEventSourceMapping",
            json!({ "FunctionName": "f", "StartingPosition": "invalid" }),
            "'invalid' at 'startingPosition' failed to satisfy constraint: Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]",
        ),
        (
            "PutProvisionedConcurrencyConfig",
            json!({ "ProvisionedConcurrentExecutions": 0 }),
            "'0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            "PutFunctionRecursionConfig",
            json!({ "RecursiveLoop": "InvalidValue" }),
            "'InvalidValue' at 'recursiveLoop' failed to satisfy constraint: Member must satisfy enum value set: [Terminate, Allow]",
        ),
        (
            "AddPermission",
            json!({ "StatementId": "example.com", "Action": "lambda:InvokeFunction", "Principal": "*" }),
            "'example.com' at 'statementId' failed to satisfy constraint: Member must satisfy regular expression pattern: ([a-zA-Z0-9-_]+)",
        ),
        (
            "AddLayerVersionPermission",
            json!({ "StatementId": "s", "Action": "*", "Principal": "*" }),
            "'*' at 'action' failed to satisfy constraint: Member must satisfy regular expression pattern: lambda:GetLayerVersion",
        ),
    ];
    all_are_refused(refused);
}

fn all_are_refused<const N: usize>(refused: [(&str, Value, &str); N]) {
    for (operation, request, expected) in refused {
        let message = told(operation, request).unwrap_or_default();
        assert_eq!(message, format!("1 validation error detected: Value {expected}"));
    }
}

#[test]
fn items_that_are_structures_are_counted() {
    let message =
        told("CreateFunction", function(json!({ "FileSystemConfigs": [{ "Arn": "x" }] }))).unwrap_or_default();
    assert!(message.starts_with("2 validation errors detected: "), "{message}");
    assert!(message.contains("'fileSystemConfigs.1.member.arn'"), "{message}");
}

#[test]
fn several_broken_rules_are_told_at_once() {
    let message = told("CreateFunction", json!({ "FunctionName": "f", "MemorySize": 1 })).unwrap();
    assert!(message.starts_with("3 validation errors detected: Value null at 'role' failed to satisfy constraint: Member must not be null; Value null at 'code' failed"), "{message}");
    assert!(message.ends_with("; Value '1' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"), "{message}");
    let both = json!({ "Content": {}, "CompatibleRuntimes": ["invalid"], "CompatibleArchitectures": ["x"] });
    let message = told("PublishLayerVersion", both).unwrap();
    assert!(message.starts_with("2 validation errors detected: Value '[invalid]' at 'compatibleRuntimes' failed to satisfy constraint: Member must satisfy enum value set: [nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x, java25, python3.10, python3.11, java21, ruby3.3"), "{message}");
}

#[test]
fn wrong_types_are_told_alone() {
    for (request, expected) in [
        (json!({ "Handler": 1, "MemorySize": 1 }), "NUMBER_VALUE can not be converted to a String"),
        (json!({ "Timeout": "1" }), "STRING_VALUE can not be converted to an Integer"),
        (json!({ "Timeout": 1.5 }), "DECIMAL_VALUE can not be converted to an Integer"),
        (json!({ "Handler": ["a"] }), "Start of list found where not expected"),
        (json!({ "Environment": { "Variables": { "AA": 1 } } }), "NUMBER_VALUE can not be converted to a String"),
        (json!({ "Publish": "yes" }), "STRING_VALUE can not be converted to a Boolean"),
    ] {
        assert_eq!(told("CreateFunction", function(request)).as_deref(), Some(expected));
    }
}

#[test]
fn a_raised_limit_goes_before_the_models() {
    let bounds = Bounds { timeout_max_s: 100_000, memory_max_mib: 500_000, ..Bounds::default() };
    let request = function(json!({ "Timeout": 100_000, "MemorySize": 500_000 }));
    assert_eq!(check("CreateFunction", request.as_object().unwrap(), &bounds), Ok(()));
}

#[test]
fn a_request_as_deep_as_a_body_can_be_is_no_danger() {
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({ "Variables": deep });
    }
    assert!(told("CreateFunction", function(json!({ "Environment": deep }))).is_some());
}
