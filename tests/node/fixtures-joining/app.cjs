'use strict';

// A program that forks where it is a primary, and goes on with Node's own module where cluster-rs cannot be had.

const fs = require('node:fs');

const say = (value) => fs.writeSync(1, `${JSON.stringify(value)}\n`);

function load() {
  if (process.env.CLUSTER_FIRST) require('node:cluster');
  try {
    return require(process.env.CLUSTER_MODULE);
  } catch (error) {
    say({ noModule: error.code });
    return require('node:cluster');
  }
}

const cluster = load();
if (cluster.isPrimary) {
  try {
    cluster.fork();
    cluster.fork();
    say({ forked: true });
  } catch (error) {
    say({ role: 'primary', code: error.code, errno: error.errno, message: error.message });
  }
} else {
  const server = require('node:net').createServer();
  server.on('error', (error) => say({ role: 'worker', code: error.code }));
  server.listen(0, '127.0.0.1', () => say({ role: 'worker', listening: true }));
}
