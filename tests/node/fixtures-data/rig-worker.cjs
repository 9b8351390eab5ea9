'use strict';

// A worker of a rig: runs the test's function and, later, whatever the test asks for.

const compile = require('./code.cjs');
const cluster = require(process.env.CLUSTER_MODULE);

const w = {
  cluster,
  id: cluster.worker.id,
  // What is said after the end of the channel is lost.
  tell: (value) => process.connected && process.send({ tell: value }, () => {}),
};

process.on('message', async (message) => {
  if (message?.rigLeave) cluster.worker.disconnect();
  if (message?.rigAsk === undefined) return;
  let answer;
  try {
    answer = { rigAnswer: message.rigAsk, value: await compile(message.source)(w, ...message.args) };
  } catch (error) {
    answer = { rigAnswer: message.rigAsk, error: String(error && error.stack || error) };
  }
  if (process.connected) process.send(answer);
});

compile(process.env.RIG_SERVE)(w, JSON.parse(process.env.RIG_OPTIONS));
