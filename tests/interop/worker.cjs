'use strict';
// The Node side of the tests of several languages on one port: node --require <register> worker.cjs ADDRESS ...
// --max=N: the most connections of each server

const cluster = require('node:cluster');
const fs = require('node:fs');
const net = require('node:net');

const { id, slot } = cluster.worker ?? {};

function commanded(socket, line) {
  if (line.startsWith('block ')) {
    socket.write('blocked\n');
    // Holds the whole process up until somebody opens the pipe for writing.
    fs.closeSync(fs.openSync(line.slice(6), 'r'));
  }
  socket.end();
}

function serve(socket) {
  let text = '';
  socket.write(`node ${id} ${slot} ${process.pid}\n`);
  socket.setEncoding('utf8');
  socket.on('data', (data) => {
    text += data;
    if (text.includes('\n')) commanded(socket, text.slice(0, text.indexOf('\n')));
  });
  // A client that went away is no concern of a worker's.
  socket.on('error', () => {});
}

function optionsOf(address) {
  if (address.startsWith('unix:@')) return { path: `\0${address.slice(6)}` };
  if (address.startsWith('unix:')) return { path: address.slice(5) };
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/[[\]]/g, '') || undefined, port: Number(address.slice(colon + 1)) };
}

const addresses = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const most = process.argv.find((argument) => argument.startsWith('--max='))?.slice(6);

function listenOn([first, ...others]) {
  if (first === undefined) return;
  const server = net.createServer(serve);
  if (most) server.maxConnections = Number(most);
  server.on('error', ({ name, code, errno, syscall, address, port, message }) => {
    cluster.worker.send(JSON.stringify({ name, code, errno, syscall, address, port, message }));
  });
  server.listen(optionsOf(first), () => listenOn(others));
}

listenOn(addresses);
cluster.worker?.on('message', (message) => {
  const [word, load] = String(message).split(' ', 2);
  if (word === 'load') cluster.worker.setLoad(Number(load));
  cluster.worker.send(message);
});
