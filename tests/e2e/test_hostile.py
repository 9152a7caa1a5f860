"""Functions that misbehave: each gets the error that AWS Lambda would give, and the next invocation works."""

import unittest

from harness import Node, deploy, invoke

EXIT = "Runtime.ExitError"


class Hostile(unittest.TestCase):
    """`name` is the fixture; each test asks it to do one thing."""

    @classmethod
    def setUpClass(cls):
        cls.node = cls.enterClassContext(Node())
        cls.api = cls.node.client()

    def harm(self, what, folder="hostile", timeout=30, may_answer=False, **settings):
        """Does harm; answers the error object. Then the function must be well again."""
        name = deploy(self.api, folder, Timeout=timeout, **settings)
        self.assertEqual(invoke(self.api, name).value, "well")
        answer = invoke(self.api, name, {"do": what}, log=True)
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.failed or may_answer, f"{what} answered {str(answer.value)[:200]}")
        self.assertIn("REPORT RequestId:", answer.log)
        for _ in range(3):
            self.assertEqual(invoke(self.api, name).value, "well")
        self.api.delete_function(FunctionName=name)
        return answer.value

    def check(self, error, kind, *parts):
        self.assertEqual(error["errorType"], kind, error)
        for part in parts:
            self.assertIn(part, error["errorMessage"])

    # What a function can do to itself.

    def test_exception(self):
        error = self.harm("raise")
        self.check(error, "KeyError", "no such key")
        self.assertTrue(any("app.py" in line for line in error["stackTrace"]), error)
        self.assertIn("requestId", error)

    def test_exit(self):
        self.check(self.harm("exit"), EXIT, "RequestId: ", "Runtime exited with error: exit status 3")

    def test_sys_exit(self):
        self.check(self.harm("sys_exit"), EXIT, "Runtime exited with error: exit status 4")

    def test_crash(self):
        self.check(self.harm("segfault"), EXIT, "Runtime exited with error: signal: segmentation fault")

    def test_abort(self):
        self.check(self.harm("abort"), EXIT, "Runtime exited with error: signal: aborted")

    def test_kill(self):
        self.check(self.harm("kill"), EXIT, "Runtime exited with error: signal: killed")

    def test_kill_everybody_in_sight(self):
        self.harm("kill_all", timeout=2)

    def test_timeout(self):
        error = self.harm("sleep", timeout=1)
        self.check(error, "Sandbox.Timedout", "RequestId: ", "Error: Task timed out after 1.00 seconds")

    def test_timeout_of_a_busy_loop(self):
        self.check(self.harm("spin", timeout=1), "Sandbox.Timedout", "Task timed out after 1.00 seconds")

    def test_timeout_of_one_that_ignores_signals(self):
        self.check(self.harm("ignore_signals", timeout=1), "Sandbox.Timedout", "Task timed out after 1.00 seconds")

    def test_answer_too_large(self):
        error = self.harm("huge_answer")
        self.check(error, "Function.ResponseSizeTooLarge", "6291556 bytes")

    def test_answer_that_is_no_json(self):
        self.check(self.harm("no_json"), "Runtime.MarshalError")

    # What a function can do to its surroundings.

    def test_out_of_memory(self):
        error = self.harm("memory", MemorySize=128)
        self.assertIn(error["errorType"], ("Runtime.OutOfMemory", "MemoryError"), error)

    def test_full_tmp(self):
        self.check(self.harm("tmp", MemorySize=1024), "OSError", "No space left on device")

    def test_fork_bomb(self):
        self.harm("fork_bomb", timeout=2)

    def test_thread_bomb(self):
        self.harm("threads", timeout=5)

    def test_all_descriptors_closed(self):
        # The answer needs none that the function can close: it may even arrive.
        self.harm("descriptors", timeout=3, may_answer=True)

    def test_all_descriptors_used(self):
        self.check(self.harm("open_descriptors"), "OSError", "Too many open files")

    def test_printing_a_gigabyte(self):
        self.harm("print", timeout=60)

    def test_child_left_behind(self):
        name = deploy(self.api, "hostile")
        for _ in range(3):
            answer = invoke(self.api, name, {"do": "leave_children"})
            self.assertFalse(answer.failed, answer.value)
        self.assertEqual(invoke(self.api, name).value, "well")
        self.api.delete_function(FunctionName=name)

    # The same in JavaScript.

    def test_node_exceptions(self):
        error = self.harm("throw", folder="hostile_node")
        self.check(error, "TypeError", "on purpose")
        self.assertIn("trace", error)

    def test_node_exit(self):
        self.check(self.harm("exit", folder="hostile_node"), EXIT, "exit status 3")

    def test_node_unhandled_rejection(self):
        error = self.harm("reject_later", folder="hostile_node")
        self.check(error, "Runtime.UnhandledPromiseRejection", "nobody listens")

    def test_node_uncaught_exception(self):
        self.assertIn("nobody catches", self.harm("throw_later", folder="hostile_node")["errorMessage"])

    def test_node_crash(self):
        self.check(self.harm("abort", folder="hostile_node"), EXIT, "signal: aborted")

    def test_node_kill(self):
        self.check(self.harm("kill", folder="hostile_node"), EXIT, "signal: killed")

    def test_node_timeout(self):
        for what in ("wait", "spin"):
            self.check(self.harm(what, folder="hostile_node", timeout=1), "Sandbox.Timedout", "after 1.00 seconds")

    def test_node_out_of_memory(self):
        for what in ("memory", "heap"):
            error = self.harm(what, folder="hostile_node", MemorySize=256)
            self.assertIn(error["errorType"].split(".")[0], ("Runtime", "RangeError"), error)

    def test_node_full_tmp(self):
        error = self.harm("tmp", folder="hostile_node", MemorySize=1024)
        self.assertIn("ENOSPC", error["errorMessage"])

    def test_node_all_descriptors_closed(self):
        self.harm("descriptors", folder="hostile_node", timeout=3)

    def test_node_printing_a_gigabyte(self):
        self.harm("print", folder="hostile_node", timeout=60)

    def test_node_answer_too_large(self):
        error = self.harm("huge_answer", folder="hostile_node")
        self.check(error, "Function.ResponseSizeTooLarge", "6291556 bytes")


if __name__ == "__main__":
    unittest.main()
