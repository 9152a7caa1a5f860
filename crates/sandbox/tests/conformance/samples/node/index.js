// A function that does what its event says: the conformance suite's sample in JavaScript.
'use strict';

const childProcess = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const net = require('node:net');

let calls = 0;

function refused(command, args) {
  const result = childProcess.spawnSync(command, args, { stdio: 'ignore' });
  return result.error || result.status !== 0 ? 'refused' : 'possible';
}

// Where init has our own user the kernel takes the signal, and drops it: killing init would end us too.
function survivesKillingInit() {
  try {
    process.kill(1, 'SIGKILL');
  } catch {
    // Another user's.
  }
  return 'refused';
}

function attack() {
  return {
    mount: refused('mount', ['-t', 'tmpfs', 'none', '/tmp']),
    'unshare user namespace': refused('unshare', ['-U', 'true']),
    'nsenter init': refused('nsenter', ['-t', '1', '-m', 'true']),
    'kill init': survivesKillingInit(),
    chroot: refused('chroot', ['/tmp', 'true']),
    'setuid root': (() => {
      try {
        process.setuid(0);
        return 'possible';
      } catch {
        return 'refused';
      }
    })(),
  };
}

function forkBomb() {
  return new Promise((resolve) => {
    let made = 0;
    const more = () => {
      let child;
      try {
        child = childProcess.spawn('sleep', ['1000'], { stdio: 'ignore' });
      } catch {
        resolve(made);
        return;
      }
      child.on('error', () => resolve(made));
      child.on('spawn', () => {
        made += 1;
        more();
      });
    };
    more();
  });
}

function connect({ host, port }) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port, timeout: 2000 }, () => {
      socket.destroy();
      resolve(null);
    });
    socket.on('error', reject);
    socket.on('timeout', () => {
      socket.destroy();
      reject(new Error('timeout'));
    });
  });
}

function allocate(mib) {
  const kept = [];
  for (let i = 0; i < mib; i += 1) {
    kept.push(crypto.randomBytes(1 << 20));
  }
  return kept.length;
}

function fillTmp(mib) {
  const file = fs.openSync('/tmp/full', 'w');
  for (let i = 0; i < mib; i += 1) {
    fs.writeSync(file, Buffer.alloc(1 << 20, 'x'));
  }
  return null;
}

function closeAll() {
  for (let fd = 0; fd < 1024; fd += 1) {
    try {
      fs.closeSync(fd);
    } catch {
      // Not open.
    }
  }
  return null;
}

const actions = {
  echo: (event) => event.value,
  count: () => calls,
  context: (_, context) => [context.awsRequestId, context.functionName],
  environment: (event) => process.env[event.name] ?? null,
  print: (event) => {
    console.log(event.text);
    return null;
  },
  raise: (event) => {
    throw new RangeError(event.text);
  },
  random: () => [Math.random(), crypto.randomUUID(), crypto.randomBytes(8).toString('hex')],
  exit: (event) => process.exit(event.status),
  'kill-self': () => process.kill(process.pid, 'SIGKILL'),
  spin: () => {
    for (;;);
  },
  'leave-children': () => {
    childProcess.spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' }).unref();
    return null;
  },
  attack,
  read: (event) => fs.readFileSync(event.path, 'utf8'),
  write: (event) => fs.writeFileSync(event.path, 'x'),
  processes: () => fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)),
  connect,
  allocate: (event) => allocate(event.mib),
  'fork-bomb': forkBomb,
  'fill-tmp': (event) => fillTmp(event.mib),
  'close-all': closeAll,
  scribble: () => null,
};

exports.handler = async (event, context) => {
  calls += 1;
  const action = actions[event.do];
  return (await action?.(event, context)) ?? null;
};
