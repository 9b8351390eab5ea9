// A server in three processes on port 9999 that sends back what it is sent, with the pid of the worker that has the
// connection, so one can see who serves whom.
//
// build:  npm install ../../node-addon
// run:    node echo.cjs                (port 9999; PORT=9998, or an argument, is another port)
// expect: `nc localhost 9999`, then a line such as "hi": "Reply from <pid>: hi". A second nc is answered by another
//         worker. A worker that crashes is replaced: "worker 2 ended (SIGKILL), worker 4 follows". Ctrl-C ends all.
'use strict';

const cluster = require('cluster-rs');
const net = require('node:net');

if (cluster.isPrimary) {
  const listening = new Set();
  for (let i = 0; i < 3; i++) cluster.fork();

  cluster.on('listening', (worker, { port }) => {
    listening.add(worker.id);
    console.log(`worker ${worker.id} (pid ${worker.process.pid}) listens on port ${port}`);
  });
  cluster.on('exit', (worker, code, signal) => {
    // One that never came to listen would not do better the second time: the port is taken, or the program is broken.
    const follows = listening.delete(worker.id) ? `worker ${cluster.fork().id} follows` : 'not replaced';
    console.log(`worker ${worker.id} ended (${signal ?? code}), ${follows}`);
  });
} else {
  net.createServer((connection) => {
    connection.setEncoding('utf8');
    connection.on('data', (text) => connection.write(`Reply from ${process.pid}: ${text}`));
    // A client that goes away without a word costs its own connection only, not the worker.
    connection.on('error', () => {});
  }).listen(process.argv[2] ?? process.env.PORT ?? 9999);
}
