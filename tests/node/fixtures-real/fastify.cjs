'use strict';
// Listens as Fastify does by default: on every address of the name localhost, which may be two servers. GET /slow is
// answered when the primary says so.

const fastify = require('fastify');

const app = fastify({ forceCloseConnections: false });
let release;
const released = new Promise((resolve) => { release = resolve; });

app.get('/who', async () => ({ pid: process.pid }));
app.get('/slow', async () => {
  process.send('slow');
  await released;
  return { pid: process.pid };
});
app.post('/greeting', {
  schema: { body: { type: 'object', required: ['name'], properties: { name: { type: 'string' } } } },
}, async (request) => ({ greeting: `hello ${request.body.name}` }));

process.on('message', (message) => {
  if (message === 'release') release();
});

app.listen({ port: 0 });
