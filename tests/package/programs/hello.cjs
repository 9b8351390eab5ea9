'use strict';

// Two workers serve one port, and both answer: node hello.cjs MODULE. With the preload MODULE is node:cluster.
const cluster = require(process.argv[2]);
const run = require('./run.cjs');

run(cluster).catch((error) => {
  console.error(error);
  process.exit(1);
});
