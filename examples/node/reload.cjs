// A server whose next version is deployed while it serves: at SIGHUP its workers are replaced by what this file is then.
//
// build:  npm install ../../node-addon
// run:    node reload.cjs              (port 8000; an argument is another port)
// expect: `curl localhost:8000` says "version 1 from worker 1", then 2, 3, 4, 1. Change the version below, and send SIGHUP to the
//         first process: "generation 2: done", and version 2 answers. Nobody who connects meanwhile is refused. A file that does not
//         run: "generation 3: refused", with the reason, and version 2 goes on. Ctrl-C ends all.
'use strict';
const cluster = require('cluster-rs');
const http = require('node:http');
const version = 1;
if (cluster.isPrimary) {
  for (let i = 0; i < 4; i++) cluster.fork();
} else {
  const server = http.createServer((request, response) => response.end(`version ${version} from worker ${cluster.worker.id}\n`));
  server.listen(process.argv[2] ?? 8000);
}

if (cluster.isPrimary) process.on('SIGHUP', async () => {
  const { generation, outcome, reason } = await cluster.reload();
  console.log(`generation ${generation}: ${outcome} ${reason}`); // done; or refused, and why: then the old workers serve on
});
