'use strict';

// A grandchild that answers the connections which a worker passes to it.
const cluster = require('node:cluster');

process.on('message', (worker, socket) => {
  socket.once('data', (data) => {
    socket.end(JSON.stringify({ data: String(data), worker, pid: process.pid, isPrimary: cluster.isPrimary }));
  });
  socket.resume();
});
