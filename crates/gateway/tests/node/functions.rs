//! Lambda's operations on functions.

use crate::place::{FUNCTIONS, Place, zip};
use api::Manifest;
use serde_json::{Value, json};

const MISSING_ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:missing";

fn path(name: &str, rest: &str) -> String {
    format!("{FUNCTIONS}/{name}{rest}")
}

#[test]
fn a_function_is_created_shown_and_deleted() {
    let place = Place::new();
    let created = place
        .create("f", json!({ "Environment": { "Variables": { "LEVEL": "1" } }, "Novelty": [1], "Tags": { "a": "b" } }));
    assert_eq!(
        (created.status, &created.json["State"], &created.json["StateReasonCode"]),
        (201, &json!("Pending"), &json!("Creating"))
    );
    let got = place.get(&path("f", ""));
    let configuration = &got.json["Configuration"];
    let expected = json!({
        "FunctionName": "f", "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f", "Runtime": "python3.11",
        "Description": "", "Timeout": 3, "MemorySize": 128, "Version": "$LATEST", "State": "Active", "LastUpdateStatus": "Successful",
        "PackageType": "Zip", "EphemeralStorage": { "Size": 512 }, "SnapStart": { "ApplyOn": "None", "OptimizationStatus": "Off" },
        "TracingConfig": { "Mode": "PassThrough" }, "LoggingConfig": { "LogFormat": "Text", "LogGroup": "/aws/lambda/f" },
        "Environment": { "Variables": { "LEVEL": "1" } }, "Novelty": [1], "RevisionId": created.json["RevisionId"],
    });
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(&configuration[member], value, "{member}");
    }
    for absent in ["Tags", "Layers", "VpcConfig", "DeadLetterConfig", "StateReason", "Code"] {
        assert!(configuration.get(absent).is_none(), "{absent}");
    }
    assert_eq!((&got.json["Tags"], got.json.get("Concurrency")), (&json!({ "a": "b" }), None));
    assert_eq!(place.get(&path("f", "/configuration")).json, *configuration);
    let deleted = place.send("DELETE", &path("f", ""), &[], b"");
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert_eq!(place.get(&path("f", "")).status, 404);
}

#[test]
fn the_code_can_be_downloaded() {
    let place = Place::new();
    let code = zip("app.py", "print('hello')");
    place.create("f", json!({ "Code": { "ZipFile": code } }));
    let location = place.get(&path("f", "")).json["Code"]["Location"].as_str().unwrap().to_owned();
    let path = location.strip_prefix(&format!("http://{}", place.address)).unwrap();
    let downloaded = place.get(path);
    assert_eq!((downloaded.status, downloaded.body.starts_with(b"PK")), (200, true));
    assert_eq!(place.get("/v1/code/0000").status, 404);
    assert_eq!(place.get(&format!("/v1/code/{}", "0".repeat(64))).status, 404);
    assert_eq!(place.get("/v1/code/..%2Fregistry.db").status, 404);
}

#[test]
fn functions_survive_a_restart() {
    let mut place = Place::new();
    let created = place.create("f", json!({ "Lichen": { "Isolation": "request", "Network": "egress" } }));
    place.restart();
    let configuration = place.get(&path("f", "/configuration")).json;
    assert_eq!(configuration["RevisionId"], created.json["RevisionId"]);
    assert_eq!(configuration["Lichen"], json!({ "Isolation": "request", "Network": "egress" }));
}

#[test]
fn code_and_configuration_are_updated() {
    let place = Place::new();
    let created = place.create("f", json!({ "Environment": { "Variables": { "LEVEL": "1" } } })).json;
    let same = place.put(&path("f", "/code"), &json!({ "ZipFile": zip("app.py", "2"), "DryRun": true }));
    assert_eq!((same.status, &same.json["CodeSha256"]), (200, &created["CodeSha256"]));
    let changed = place.put(&path("f", "/code"), &json!({ "ZipFile": zip("app.py", "2") }));
    assert_eq!((changed.status, &changed.json["LastUpdateStatus"]), (200, &json!("InProgress")));
    assert_ne!(changed.json["CodeSha256"], created["CodeSha256"]);
    let revision = changed.json["RevisionId"].clone();
    let stale = place.put(&path("f", "/configuration"), &json!({ "RevisionId": created["RevisionId"], "Timeout": 9 }));
    assert_eq!((stale.status, stale.code.as_str()), (412, "PreconditionFailedException"));
    assert!(stale.text().starts_with("The Revision Id provided does not match the latest Revision Id."));
    let changed = place.put(
        &path("f", "/configuration"),
        &json!({ "RevisionId": revision, "Timeout": 9, "Environment": { "Variables": {} } }),
    );
    assert_eq!((changed.status, &changed.json["Timeout"]), (200, &json!(9)));
    assert_eq!(changed.json["Environment"], json!({ "Variables": {} }));
    assert_eq!(changed.json["MemorySize"], 128);
    let version = place.put(&path("f:$LATEST", "/configuration"), &json!({ "Timeout": 9 }));
    assert!(version.text().starts_with("This operation is permitted on Lambda functions only."), "{version:?}");
}

#[test]
fn what_cannot_be_created_is_told_in_lambdas_words() {
    let place = Place::new();
    place.create("f", json!({}));
    let again = place.create("f", json!({}));
    assert_eq!(
        (again.status, again.code.as_str(), again.text()),
        (409, "ResourceConflictException", "Function already exist: f")
    );
    assert_eq!(again.json["Type"], "User");
    let broken = place.create("g", json!({ "Code": { "ZipFile": "bm8gemlw" } }));
    let unzip = "Could not unzip uploaded file. Please check your file, then try to upload again.";
    assert_eq!((broken.status, broken.code.as_str(), broken.text()), (400, "InvalidParameterValueException", unzip));
    let long = place.create(&"a".repeat(65), json!({}));
    assert_eq!((long.status, long.code.as_str()), (400, "InvalidParameterValueException"));
    for (more, status, code) in [
        (json!({ "Timeout": 0 }), 400, "ValidationException"),
        (json!({ "Timeout": "9" }), 400, "SerializationException"),
        (json!({ "Runtime": "java21" }), 400, "InvalidParameterValueException"),
        (json!({ "Code": {} }), 400, "InvalidParameterValueException"),
        (json!({ "Code": { "S3Bucket": "bucket", "S3Key": "k" } }), 400, "InvalidParameterValueException"),
        (json!({ "Code": { "ZipFile": "?" } }), 400, "SerializationException"),
    ] {
        let refused = place.create("g", more);
        assert_eq!((refused.status, refused.code.as_str()), (status, code), "{refused:?}");
    }
    let nonsense = place.send("POST", FUNCTIONS, &[], b"{");
    assert_eq!((nonsense.status, nonsense.code.as_str()), (400, "InvalidRequestContentException"));
    assert_eq!(place.get(&path("g", "")).status, 404);
}

#[test]
fn limits_can_be_set() {
    let place = Place::with(
        "[functions]\nrequest_max = 2000\ntimeout_max_s = 3600\n[code]\nzip_max = 500\nunzipped_max = 900\n",
    );
    assert_eq!(place.create("f", json!({ "Timeout": 3600 })).status, 201);
    let long = place.create("g", json!({ "Description": "x".repeat(2000) }));
    let text = "Request must be smaller than 2000 bytes for the CreateFunction operation";
    assert_eq!((long.status, long.code.as_str(), long.text()), (413, "RequestEntityTooLargeException", text));
    let unzipped = place.create("g", json!({ "Code": { "ZipFile": zip("app.py", &"x".repeat(900)) } }));
    assert_eq!((unzipped.status, unzipped.text()), (400, "Unzipped size must be smaller than 900 bytes"));
    let mut state = 1u32;
    let noise = (0..800).map(|_| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        char::from((state >> 16) as u8 & 0x7f)
    });
    let noise: String = noise.collect();
    let zipped = place.create("g", json!({ "Code": { "ZipFile": zip("app.py", &noise) } }));
    assert_eq!((zipped.status, zipped.text()), (413, "Zipped size must be smaller than 500 bytes"));
}

#[test]
fn all_ways_to_name_a_function_reach_it() {
    let place = Place::new();
    place.create("f", json!({}));
    let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af";
    for name in [
        "f",
        "f/",
        "f?Qualifier=%24LATEST",
        "f%3A%24LATEST",
        "000000000000:function:f",
        arn,
        &format!("{arn}%3A$LATEST"),
    ] {
        assert_eq!(place.get(&path(name, "")).status, 200, "{name}");
    }
    let qualified = place.get(&path("f", "?Qualifier=$LATEST")).json;
    assert_eq!(qualified["Configuration"]["FunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST");
    let missing = place.get(&path("missing", ""));
    assert_eq!((missing.status, missing.code.as_str()), (404, "ResourceNotFoundException"));
    assert_eq!(missing.json, json!({ "Type": "User", "Message": format!("Function not found: {MISSING_ARN}") }));
    let version = place.get(&path("f", "?Qualifier=7"));
    assert_eq!(version.text(), "Function not found: arn:aws:lambda:us-east-1:000000000000:function:f:7");
    let disagree = place.get(&path("f:1", "?Qualifier=2"));
    assert_eq!((disagree.status, disagree.code.as_str()), (400, "InvalidParameterValueException"));
    let elsewhere = place.get(&path(&arn.replace("us-east-1", "eu-west-1"), ""));
    assert_eq!(elsewhere.text(), "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')");
}

#[test]
fn accounts_and_regions_are_apart() {
    let place = Place::new();
    let signed = "AWS4-HMAC-SHA256 Credential=123456789012/20250131/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=0";
    let there = [("Authorization", signed)];
    let created = place.create_as(&there, "f", json!({}));
    assert_eq!(created.json["FunctionArn"], "arn:aws:lambda:eu-west-1:123456789012:function:f");
    assert_eq!(place.get(&path("f", "")).status, 404);
    assert_eq!(place.send("GET", &path("f", ""), &there, b"").status, 200);
    assert_eq!(place.get(FUNCTIONS).json, json!({ "Functions": [] }));
}

#[test]
fn functions_are_listed_in_pages() {
    let place = Place::with("[code]\ndurable = false\n");
    (0..7).for_each(|i| assert_eq!(place.create(&format!("f{i}"), json!({})).status, 201));
    let names = |page: &Value| -> Vec<String> {
        page["Functions"].as_array().unwrap().iter().map(|f| f["FunctionName"].as_str().unwrap().to_owned()).collect()
    };
    let first = place.get(&format!("{FUNCTIONS}/?MaxItems=5")).json;
    assert_eq!(names(&first), ["f0", "f1", "f2", "f3", "f4"]);
    let marker = first["NextMarker"].as_str().unwrap();
    let second = place.get(&format!("{FUNCTIONS}/?MaxItems=5&Marker={marker}")).json;
    assert_eq!((names(&second), second.get("NextMarker")), (vec!["f5".to_owned(), "f6".to_owned()], None));
    let versions = place.get(&format!("{FUNCTIONS}?FunctionVersion=ALL")).json;
    assert_eq!(versions["Functions"][0]["FunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:f0:$LATEST");
    let wrong = place.get(&format!("{FUNCTIONS}?FunctionVersion=invalid"));
    assert_eq!(
        wrong.text(),
        "1 validation error detected: Value 'invalid' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]"
    );
    assert_eq!(place.get(&format!("{FUNCTIONS}?Marker=%21")).status, 400);
    assert_eq!(place.client().functions().unwrap().len(), 7);
}

#[test]
fn concurrency_is_reserved_within_the_node() {
    let place = Place::new();
    place.create("f", json!({}));
    place.create("g", json!({}));
    let reserve = |name: &str, count: i64| {
        place.put(
            &format!("/2017-10-31/functions/{name}/concurrency"),
            &json!({ "ReservedConcurrentExecutions": count }),
        )
    };
    assert_eq!(reserve("f", 600).json, json!({ "ReservedConcurrentExecutions": 600 }));
    let too_much = reserve("g", 301);
    assert!(too_much.text().ends_with("below its minimum value of [100]."), "{too_much:?}");
    assert_eq!(reserve("g", 300).status, 200);
    assert_eq!(reserve("f", -1).code, "ValidationException");
    assert_eq!(place.get("/2019-09-30/functions/f/concurrency").json, json!({ "ReservedConcurrentExecutions": 600 }));
    assert_eq!(place.get(&path("f", "")).json["Concurrency"], json!({ "ReservedConcurrentExecutions": 600 }));
    assert_eq!(place.send("DELETE", "/2017-10-31/functions/f/concurrency", &[], b"").status, 204);
    assert_eq!(place.get("/2019-09-30/functions/f/concurrency").json, json!({}));
    assert_eq!(reserve("missing", 1).status, 404);
}

#[test]
fn invocations_are_checked_before_anything_runs() {
    let place = Place::new();
    place.create("f", json!({}));
    let invoke = |headers: &[(&str, &str)], body: &[u8]| place.send("POST", &path("f", "/invocations"), headers, body);
    assert_eq!(invoke(&[("X-Amz-Invocation-Type", "DryRun")], b"{}").status, 204);
    let event = invoke(&[("X-Amz-Invocation-Type", "Event")], b"{}");
    assert_eq!(event.status, 202);
    let wrong = invoke(&[("X-Amz-Invocation-Type", "Sometimes")], b"{}");
    assert_eq!((wrong.status, wrong.code.as_str()), (400, "ValidationException"));
    assert_eq!(invoke(&[("X-Amz-Log-Type", "Head")], b"{}").code, "ValidationException");
    for body in [&b"{"[..], b"\x87", b"{} {}"] {
        let refused = invoke(&[], body);
        assert_eq!((refused.status, refused.code.as_str()), (400, "InvalidRequestContentException"));
    }
    for context in ["?", "aGk=", "W10="] {
        let refused = invoke(&[("X-Amz-Client-Context", context)], b"{}");
        assert_eq!(refused.text(), "Client context must be a valid Base64-encoded JSON object.");
    }
    let long = invoke(&[], &vec![b' '; (6 << 20) + 1]);
    assert_eq!((long.status, long.code.as_str()), (413, "RequestEntityTooLargeException"));
    assert_eq!(place.send("POST", &path("missing", "/invocations"), &[], b"{}").status, 404);
    assert_eq!(place.send("POST", &path("f", "/invocations?Qualifier=7"), &[], b"{}").status, 404);
}

#[test]
fn the_client_and_the_gateway_speak_the_same_language() {
    let place = Place::new();
    let client = place.client();
    let manifest = Manifest {
        name: "f".into(),
        runtime: "nodejs20.x".into(),
        handler: "index.handler".into(),
        memory_mib: Some(256),
        timeout_s: Some(9),
        isolation: Some(api::lambda::Isolation::Request),
        network: Some(api::lambda::Network::Egress),
        min_warm: Some(1),
        pu: vec!["cpu:memory=256:price=0.5".parse().unwrap()],
        ..Manifest::default()
    };
    let refused = client.create_function(&manifest, b"not a zip file").unwrap_err();
    assert_eq!(refused.code(), "InvalidParameterValueException");
    use base64::Engine;
    let package = |text: &str| base64::engine::general_purpose::STANDARD.decode(zip("index.js", text)).unwrap();
    client.create_function(&manifest, &package("1")).unwrap();
    client.update_code(&manifest, &package("2")).unwrap();
    let updated = client.update_configuration(&Manifest { min_warm: Some(3), ..manifest.clone() }).unwrap();
    let options = client.function("f").unwrap().lichen.unwrap();
    assert_eq!((options.min_warm, options.network, &options.pu), (Some(3), manifest.network, &manifest.pu));
    assert_eq!((updated.memory_size, updated.timeout, updated.other["PackageType"].as_str()), (256, 9, Some("Zip")));
    client.reserve_concurrency("f", Some(7)).unwrap();
    client.reserve_concurrency("f", None).unwrap();
    client.delete_function("f").unwrap();
    assert_eq!(client.delete_function("f").unwrap_err().code(), "ResourceNotFoundException");
}
