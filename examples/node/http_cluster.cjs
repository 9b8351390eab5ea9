// A web server on every CPU, in the shape in which the documentation of node:cluster introduces itself. Only the
// first line differs: it says cluster-rs where that says node:cluster.
//
// build:  npm install ../../node-addon
// run:    node http_cluster.cjs        (port 8000; PORT=8001, or an argument, is another port; WORKERS=2: two of them)
// expect: "Primary <pid> is running", a line for each worker that listens, and `curl localhost:8000` says
//         "hello world" and which worker it comes from. End a worker with `kill <pid>`: "worker <pid> died". When the
//         last one is gone, or after Ctrl-C, the primary ends too.
'use strict';

const cluster = require('cluster-rs');
const http = require('node:http');
const os = require('node:os');

if (cluster.isPrimary) {
  console.log(`Primary ${process.pid} is running`);

  const workers = Number(process.env.WORKERS) || os.availableParallelism();
  for (let i = 0; i < workers; i++) cluster.fork();

  cluster.on('listening', (worker, address) => {
    console.log(`Worker ${worker.process.pid} listens on port ${address.port}`);
  });
  cluster.on('exit', (worker, code, signal) => {
    console.log(`worker ${worker.process.pid} died (${signal ?? code})`);
  });
} else {
  // Workers can share any TCP connection. Here it is an HTTP server.
  http.createServer((request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/plain' });
    response.end(`hello world from worker ${process.pid}\n`);
  }).listen(process.argv[2] ?? process.env.PORT ?? 8000);
}
