'use strict';

/** Workers that have ended, and had taken a connection. */
const served = new WeakSet();

module.exports = { served };
