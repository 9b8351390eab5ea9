'use strict';

// The real node:cluster object, patched in place: who requires node:cluster elsewhere in the process sees the same.
module.exports = require('./register.cjs').patched();
