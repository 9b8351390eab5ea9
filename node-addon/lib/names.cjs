'use strict';

// The policies, name and number, and the mechanisms, as the engine knows them (node-addon/src/names.rs). Node's own policies have
// Node's numbers. They are here because they must be known where there is no addon, too.

const POLICIES = new Map([['rr', 2], ['none', 1], ['least-loaded', 3], ['source-hash', 4]]);
const MECHANISMS = ['auto', 'passed', 'kernel', 'rotation'];

module.exports = { MECHANISMS, POLICIES };
