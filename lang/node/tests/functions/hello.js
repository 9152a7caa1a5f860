// The least that a function can be.
'use strict';

exports.handler = async () => ({ hello: 'world' });
