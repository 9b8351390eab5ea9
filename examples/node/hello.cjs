// A greeting from four processes on one port, in as few lines as will do.
//
// build:  npm install ../../node-addon
// run:    node hello.cjs               (port 8000; an argument is another port)
// expect: `curl localhost:8000` says "hello from worker 1", then 2, 3, 4, 1. Ctrl-C ends all.
'use strict';
const cluster = require('cluster-rs'); // was: require('node:cluster')
const http = require('node:http');
if (cluster.isPrimary) {
  for (let i = 0; i < 4; i++) cluster.fork();
} else {
  const server = http.createServer((request, response) => response.end(`hello from worker ${cluster.worker.id}\n`));
  server.listen(process.argv[2] ?? 8000);
}
