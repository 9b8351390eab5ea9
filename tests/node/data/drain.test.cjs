'use strict';
// A worker that is asked to leave, and a client that always has one more request on its connection.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, play } = require('../support/index.cjs');

// How a program answers, and what it makes of the connection.
const ANSWERS = {
  'says nothing': "answer.end('x')",
  'setHeader': "answer.setHeader('Connection', 'keep-alive'); answer.setHeader('Keep-Alive', 'timeout=60'); answer.end('x')",
  'writeHead with an object': "answer.writeHead(200, { connection: 'keep-alive', 'Set-Cookie': ['a=1', 'b=2'] }); answer.end('x')",
  'writeHead with an array': "answer.writeHead(200, ['Connection', 'keep-alive', 'Content-Length', '1']); answer.end('x')",
  'setHeader and writeHead': "answer.setHeader('X-Own', '1'); answer.writeHead(200, { Connection: 'Keep-Alive' }); answer.end('x')",
  'shouldKeepAlive': "answer.shouldKeepAlive = true; answer.end('x')",
  'a header that is removed': "answer.removeHeader('Connection'); answer.end('x')",
  'in pieces': "answer.setHeader('Connection', 'keep-alive'); answer.write('x'); setTimeout(() => answer.end('y'), 20)",
  'the events are its own': "0; server.emit = function (name, ...args) { " +
    "if (name === 'request') args[1].end('x', () => {}); return name === 'request' || emit.call(this, name, ...args); }",
};

/** Asks on one connection again and again while the worker is asked to leave. Gives the answers that came after that. */
const busy = (answer) => play({
  data: answer,
  async primary({ cluster, data, report, happens }) {
    const http = require('node:http');
    const worker = cluster.fork({ ANSWER: data });
    const [{ port }] = await happens(worker, 'listening');
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    let asked = false;
    let after = 0;
    const ask = () => new Promise((resolve) => {
      http.get({ port, host: '127.0.0.1', agent }, (response) => {
        if (asked) report('answer', response.statusCode, response.headers.connection, response.headers['set-cookie']);
        response.resume().on('end', resolve);
      }).on('error', (error) => {
        if (!asked || after === 0) report('failed', error.code);
        resolve('gone');
      });
    });
    for (let i = 0; i < 3; i++) await ask();
    asked = true;
    const exit = happens(worker, 'exit');
    worker.disconnect();
    for (; after < 20; after++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      if (await ask() === 'gone') break;
    }
    report('exit', ...await exit);
  },
  worker() {
    const http = require('node:http');
    if (process.env.ANSWER === 'fed') {
      const inner = http.createServer((request, answer) => answer.setHeader('Connection', 'keep-alive').end('x'));
      require('node:net').createServer((socket) => inner.emit('connection', socket)).listen(0, '127.0.0.1');
      return;
    }
    const handle = new Function('server', 'emit', 'request', 'answer', process.env.ANSWER);
    const server = http.createServer();
    if (process.env.ANSWER.startsWith('0;')) handle(server, server.emit);
    else server.on('request', (request, answer) => handle(server, null, request, answer));
    server.listen(0, '127.0.0.1');
  },
});

for (const [how, answer] of Object.entries(ANSWERS)) {
  test(`it leaves within one request, whatever the program says: ${how}`, ours, async () => {
    const run = await busy(answer);
    const cookies = how === 'writeHead with an object' ? ['a=1', 'b=2'] : null;
    assert.deepEqual(run.all('answer'), [[200, 'close', cookies]]);
    assert.deepEqual(run.all('failed'), []);
    assert.deepEqual(run.all('exit'), [[0, null]]);
  });
}

test('what a client has asked for at once is answered, and the last answer says it', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, connect, receive }) {
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      const socket = await connect(port);
      socket.write('GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n');
      const text = receive(socket);
      await happens(worker, 'message');
      const exit = happens(worker, 'exit');
      worker.disconnect();
      report('text', await text);
      report('exit', ...await exit);
    },
    worker() {
      const answers = [];
      const server = require('node:http').createServer((request, answer) => {
        answer.setHeader('Connection', 'keep-alive');
        // When it is sent: one that is ready before its turn is left as it is.
        answers.push((then) => answer.end(`<${request.url}>`).once('close', then));
        if (request.url === '/3') process.send('all', whenClosed);
      }).listen(0, '127.0.0.1');
      // Node closes it when the worker leaves.
      function whenClosed() {
        if (server.listening) setImmediate(whenClosed);
        else answers.shift()?.(whenClosed);
      }
    },
  });
  const text = run.one('text');
  assert.deepEqual(text.match(/<[^>]*>/g), ['</1>', '</2>', '</3>']);
  assert.deepEqual(text.match(/Connection: .*/g), ['Connection: keep-alive', 'Connection: keep-alive', 'Connection: close']);
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('a client that never waits for the last answer is no reason to stay', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, connect }) {
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      const socket = await connect(port);
      const ask = () => socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
      let text = '';
      let asked = 0;
      let isAsked = false;
      const closed = happens(socket, 'close');
      socket.on('error', () => {}).on('data', (data) => {
        text += data;
        const answers = text.split('<x>').length - 1;
        for (; asked < answers + 2; asked++) ask();
        if (answers >= 20 && !isAsked) worker.disconnect();
        isAsked = answers >= 20;
      });
      const exit = happens(worker, 'exit');
      for (; asked < 2; asked++) ask();
      await closed;
      report('close', text.match(/Connection: close/g)?.length);
      report('exit', ...await exit);
    },
    worker() {
      require('node:http').createServer((request, answer) => {
        answer.setHeader('Connection', 'keep-alive');
        setTimeout(() => answer.end('<x>'), 5);
      }).listen(0, '127.0.0.1');
    },
  });
  assert.equal(run.one('close'), 1);
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('an HTTP server that gets its connections from a server of the program', ours, async () => {
  const run = await busy('fed');
  assert.deepEqual(run.all('answer'), [[200, 'close', null]]);
  assert.deepEqual(run.all('failed'), []);
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('a word about the connection that is no "keep-alive" is kept, and an answer that comes first is left alone', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, connect, receive }) {
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      const socket = await connect(port);
      const text = receive(socket);
      socket.write('GET /hold HTTP/1.1\r\nHost: a\r\n\r\n');
      await happens(worker, 'message');
      const exit = happens(worker, 'exit');
      worker.disconnect();
      report('text', await text);
      report('exit', ...await exit);
    },
    worker() {
      require('node:http').createServer((request, answer) => {
        process.send('here');
        setTimeout(() => {
          answer.writeEarlyHints({ link: '</style.css>; rel=preload' });
          answer.writeHead(426, { Connection: 'Upgrade, keep-alive', Upgrade: 'TLS/1.3' });
          answer.end();
        }, 200);
      }).listen(0, '127.0.0.1');
    },
  });
  assert.match(run.one('text'), /^HTTP\/1\.1 103 /);
  assert.match(run.one('text'), /\r\nConnection: Upgrade, close\r\n/);
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('HTTP/1.1 on a server for HTTP/2', ours, async () => {
  const run = await play({
    data: `${__dirname}/fixtures/localhost`,
    async primary({ cluster, data, report, happens }) {
      const https = require('node:https');
      const worker = cluster.fork({ NAME: data });
      const [{ port }] = await happens(worker, 'listening');
      const agent = new https.Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false });
      const ask = () => new Promise((resolve) => {
        https.get({ port, host: '127.0.0.1', agent }, (response) => {
          report('answer', response.headers.connection);
          response.resume().on('end', resolve);
        }).on('error', ({ code }) => resolve(report('failed', code)));
      });
      await ask();
      const exit = happens(worker, 'exit');
      worker.disconnect();
      await new Promise((resolve) => setTimeout(resolve, 50));
      await ask();
      report('exit', ...await exit);
    },
    worker() {
      const fs = require('node:fs');
      const [key, cert] = ['key', 'cert'].map((name) => fs.readFileSync(`${process.env.NAME}-${name}.pem`));
      require('node:http2').createSecureServer({ key, cert, allowHTTP1: true }, (request, answer) => {
        if (request.httpVersionMajor === 1) answer.setHeader('Connection', 'keep-alive');
        answer.end('x');
      }).listen(0, '127.0.0.1');
    },
  });
  assert.deepEqual(run.all('answer'), [['keep-alive'], ['close']]);
  assert.deepEqual(run.all('exit'), [[0, null]]);
});
