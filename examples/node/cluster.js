// Three workers of a server that knows nothing of clusters: each worker simply requires server.js, as it is.
//
// build:  npm install ../../node-addon
// run:    node cluster.js              (port 8000; PORT=8001, or an argument, is another port)
// expect: three times "<pid> listens on port 8000", and `curl localhost:8000` is answered by the three in turn.
//         Ctrl-C: each worker finishes what it has, then all are gone. `npx cluster-rs -i 3 server.js` does the same
//         and more, without this file.
'use strict';

const cluster = require('cluster-rs');

if (cluster.isPrimary) {
  for (let i = 0; i < 3; i++) cluster.fork();
  // Without this the primary ends at once, and each worker with it, in the middle of what it does.
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => cluster.disconnect(() => console.log('all workers are gone')));
  }
} else {
  // Ctrl-C in a terminal reaches the workers too. It is for the primary to say when they leave.
  process.on('SIGINT', () => {});
  require('./server.js');
}
