;; What the first byte on stdin says, good or bad: the same orders as those of the native sample.
;; e: the rest of stdin goes to stdout.  x: exit code 7.  l: for ever.  u: a trap.  4: memory without end.
;; r: calls without end.  B: outputs without end.  n: what is not its memory.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (global $spin (mut i64) (i64.const 0))

  (func $deep (param $n i32) (result i32)
    (i32.add (call $deep (i32.add (local.get $n) (i32.const 1))) (i32.const 1)))

  ;; Reads until the end, into memory that grows as it must, from 4096 on: how much came.
  (func $all (result i32) (local $len i32) (local $left i32)
    (loop $more (result i32)
      (local.set $left (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.add (i32.const 4096) (local.get $len))))
      (if (i32.lt_u (local.get $left) (i32.const 65536))
        (then (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (unreachable)))
          (local.set $left (i32.add (local.get $left) (i32.const 1048576)))))
      (i32.store (i32.const 0) (i32.add (i32.const 4096) (local.get $len)))
      (i32.store (i32.const 4) (local.get $left))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $len (i32.add (local.get $len) (i32.load (i32.const 8))))
      (br_if $more (i32.load (i32.const 8)))
      (local.get $len)))

  (func $say (param $at i32) (param $len i32)
    (loop $more
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $len))
      (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 9))))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
      (local.set $len (i32.sub (local.get $len) (i32.load (i32.const 8))))
      (br_if $more (local.get $len))))

  (func (export "_start") (local $len i32) (local $order i32)
    (local.set $len (call $all))
    (local.set $order (i32.load8_u (i32.const 4096)))
    (if (i32.eq (local.get $order) (i32.const 101)) ;; e
      (then (call $say (i32.const 4097) (i32.sub (local.get $len) (i32.const 1))) (return)))
    (if (i32.eq (local.get $order) (i32.const 120)) (then (call $exit (i32.const 7)))) ;; x
    (if (i32.eq (local.get $order) (i32.const 108)) ;; l
      (then (loop $for_ever (global.set $spin (i64.add (global.get $spin) (i64.const 1))) (br $for_ever))))
    (if (i32.eq (local.get $order) (i32.const 52)) ;; 4
      (then (loop $on (br_if $on (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)))
    (if (i32.eq (local.get $order) (i32.const 114)) (then (drop (call $deep (i32.const 0))))) ;; r
    (if (i32.eq (local.get $order) (i32.const 66)) (then (loop $on (call $say (i32.const 4096) (i32.const 65536)) (br $on)))) ;; B
    (if (i32.eq (local.get $order) (i32.const 110)) (then (drop (i32.load (i32.const -8))))) ;; n
    (unreachable)))
