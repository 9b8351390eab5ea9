'use strict';

// Node's channel to a worker, in the primary. One ear hears what the worker's Node says before Node's own primary does, and one
// wrapper what that answers. Behind both is one list of stages. A stage has one or both of these:
//   hears(message)   something came; true if it goes no further: neither to the stages behind nor to Node's own code
//   says(message)    Node's own code, or a stage, is about to send this
// The list, from the first to the last:
//   binds.cjs     of the command line: which addresses could not be had, and why
//   guard.cjs     ends a worker whose message Node's own code would fall over
//   permits.cjs   refuses what Node would open itself and the program has not declared
//   queries.cjs   answers from the engine what workers ask when they listen

const PASSED_OVER = 'cluster-rs';

// The stages of each child process that has any.
const lists = new WeakMap();

function nothing() {}

/** Puts stages in front of those that the worker has already. */
function addStages({ process: child }, ...stages) {
  const known = lists.get(child);
  if (known) {
    known.unshift(...stages);
    return;
  }
  lists.set(child, stages);

  child.prependListener('internalMessage', (message) => {
    const isTaken = stages.some((stage) => stage.hears?.(message));
    // Node's own listeners, which come next, look at the act.
    if (isTaken && Object(message) === message) message.act = PASSED_OVER;
  });

  const { send } = child;
  child.send = function sendHeard(message, ...rest) {
    if (message?.cmd !== 'NODE_CLUSTER') return Reflect.apply(send, this, [message, ...rest]);
    for (const stage of stages) stage.says?.(message);
    // That the worker has just gone is no error of the program's; without a callback it would be one.
    const callback = rest.find((argument) => typeof argument === 'function') ?? nothing;
    return Reflect.apply(send, this, [message, rest[0], undefined, callback]);
  };
}

/** Says something to a worker as Node's primary would. */
function reply({ process: child }, message) {
  if (child.connected) child.send({ cmd: 'NODE_CLUSTER', ...message });
}

module.exports = { PASSED_OVER, addStages, reply };
