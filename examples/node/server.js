// An ordinary web server: one process, and no word about clusters. It is the same file in all three ways to run it.
//
// build:  npm install ../../node-addon (for the last two)
// run:    node server.js               (port 8000; PORT=8001, or an argument, is another port)
//         node cluster.js              three of it on that port, by a program of our own: see there
//         npx cluster-rs -i 3 server.js        three of it on that port, without a line of program
// expect: `curl localhost:8000/some/path` says "GET /some/path, answered by <pid>". Run a second one beside the
//         first with plain node: it ends with EADDRINUSE. As a cluster: the pids take turns.
'use strict';

const http = require('node:http');

const server = http.createServer((request, response) => {
  response.end(`${request.method} ${request.url}, answered by ${process.pid}\n`);
});
server.listen(process.argv[2] ?? process.env.PORT ?? 8000, () => {
  console.log(`${process.pid} listens on port ${server.address().port}`);
});
