// The second argument of every handler.
'use strict';

const { Fault } = require('./lichen_errors.cjs');

/** What an invocation is told about itself. `ends` has the functions by which older handlers end it, or is null. */
class Context {
  constructor(settings, invocation, ends) {
    const [, deadline, requestId, arn, clientContext, identity, tenantId] = invocation;
    this.callbackWaitsForEmptyEventLoop = true;
    this.functionVersion = settings.functionVersion;
    this.functionName = settings.functionName;
    this.memoryLimitInMB = settings.memory;
    this.logGroupName = settings.logGroup;
    this.logStreamName = settings.logStream;
    this.clientContext = clientContext === '' ? undefined : parse(clientContext, 'Client Context');
    this.identity = identity === '' ? undefined : parse(identity, 'Cognito Identity');
    this.invokedFunctionArn = arn;
    this.awsRequestId = requestId;
    this.tenantId = tenantId === '' ? undefined : tenantId;
    this.getRemainingTimeInMillis = () => Math.max(deadline - Date.now(), 0);
    if (ends === null) return;
    this.done = ends.done;
    this.succeed = ends.succeed;
    this.fail = ends.fail;
  }
}

function parse(text, name) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Fault('Runtime.LambdaContextUnmarshalError', `Unable to parse ${name} JSON: ${error.message}`);
  }
}

module.exports = { Context };
