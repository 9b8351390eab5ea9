'use strict';
// An application as one writes it for a single process: it says nothing of clusters.

const express = require('express');

const app = express();
app.use(express.json({ limit: '4mb' }));

app.get('/who', (request, response) => {
  response.json({ pid: process.pid, ip: request.ip, port: request.socket.remotePort });
});
app.post('/sum', (request, response) => {
  response.json({ pid: process.pid, sum: request.body.reduce((sum, value) => sum + value, 0) });
});
app.get('/stream', (request, response) => {
  let left = 64;
  const more = () => {
    while (left-- > 0) if (!response.write('x'.repeat(16384))) return response.once('drain', more);
    return response.end();
  };
  more();
});
app.get('/fails', () => {
  throw new Error('on purpose');
});
app.use((error, request, response, next) => {
  response.status(500).json({ pid: process.pid, error: error.message });
  next();
});

app.listen(0, '127.0.0.1');
