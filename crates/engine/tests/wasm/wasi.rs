//! Real programs: C, compiled against wasi-libc. Skipped where there is no compiler for them.

use crate::support::{Given, given, load, lossy, plain, set, text};
use engine::{Folder, Program, RunError};
use std::process::Command;
use std::time::Duration;

/// The program of a C text, or nothing, said aloud, where it cannot be compiled.
fn compile(name: &str, source: &str) -> Option<Box<dyn Program>> {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join(format!("{name}.c")), folder.path().join(format!("{name}.wasm")));
    std::fs::write(&from, source).unwrap();
    let flags = ["--target=wasm32-wasi", "-O2", "-msimd128", "-D_WASI_EMULATED_SIGNAL", "-D_GNU_SOURCE"];
    let done = Command::new("clang").args(flags).arg(&from).arg("-o").arg(&to).output();
    match done {
        Ok(done) if done.status.success() => Some(load(&std::fs::read(to).unwrap())),
        other => {
            println!("skipped: no clang with wasi-libc and lld here ({other:?})");
            None
        }
    }
}

fn ends_well(given: &Given, name: &str, source: &str) {
    let Some(mut program) = compile(name, source) else { return };
    let finished = given.run(&mut *program);
    let texts = format!("{}{}", lossy(&finished.stdout), lossy(&finished.stderr));
    if let Err(error) = finished.outcome {
        panic!("{name}: {error}: {texts}");
    }
}

const HEAD: &str = r#"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#define FAILS(call, why) do { errno = 0; long r_ = (long)(call); if (r_ != -1 || errno != (why)) { \
    fprintf(stderr, "line %d: %s: %ld, errno %d (%s)\n", __LINE__, #call, r_, errno, strerror(errno)); exit(1); } } while (0)
#define OK(call) do { errno = 0; if ((long)(call) < 0) { \
    fprintf(stderr, "line %d: %s: errno %d (%s)\n", __LINE__, #call, errno, strerror(errno)); exit(1); } } while (0)
#define IS(what) do { if (!(what)) { fprintf(stderr, "line %d: not so: %s\n", __LINE__, #what); exit(1); } } while (0)
static void put(const char *path, const char *text) {
    FILE *f = fopen(path, "w"); IS(f); IS(fputs(text, f) >= 0); IS(fclose(f) == 0);
}
static int count(const char *path) {
    DIR *d = opendir(path); IS(d); int n = 0; while (readdir(d)) n++; closedir(d); return n;
}
"#;

#[test]
fn files_are_read_written_and_moved() {
    let body = r#"
int main(void) {
    char b[64]; struct stat s;
    int fd = open("/tmp/f", O_RDWR | O_CREAT | O_EXCL, 0644); OK(fd);
    FAILS(open("/tmp/f", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
    IS(write(fd, "hello world", 11) == 11);
    IS(lseek(fd, 6, SEEK_SET) == 6 && read(fd, b, 64) == 5 && !memcmp(b, "world", 5));
    IS(read(fd, b, 64) == 0);
    IS(pread(fd, b, 5, 0) == 5 && !memcmp(b, "hello", 5));
    IS(pwrite(fd, "W", 1, 6) == 1 && lseek(fd, 0, SEEK_CUR) == 11);
    IS(lseek(fd, -5, SEEK_END) == 6 && read(fd, b, 5) == 5 && !memcmp(b, "World", 5));
    FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
    IS(lseek(fd, 20, SEEK_SET) == 20 && write(fd, "x", 1) == 1);
    OK(fstat(fd, &s)); IS(s.st_size == 21 && S_ISREG(s.st_mode) && s.st_nlink == 1);
    IS(pread(fd, b, 21, 0) == 21 && b[15] == 0 && b[20] == 'x');
    OK(ftruncate(fd, 5)); OK(fstat(fd, &s)); IS(s.st_size == 5);
    OK(ftruncate(fd, 9)); IS(pread(fd, b, 9, 0) == 9 && !memcmp(b, "hello\0\0\0\0", 9));
    OK(posix_fallocate(fd, 0, 12)); OK(fstat(fd, &s)); IS(s.st_size == 12);
    OK(fsync(fd)); OK(fdatasync(fd)); OK(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM)); OK(close(fd));
    FAILS(close(fd), EBADF); FAILS(read(fd, b, 1), EBADF);
    fd = open("/tmp/f", O_WRONLY | O_APPEND); OK(fd);
    IS(lseek(fd, 0, SEEK_SET) == 0 && write(fd, "end", 3) == 3); FAILS(read(fd, b, 1), EBADF);
    OK(fstat(fd, &s)); IS(s.st_size == 15); OK(close(fd));
    OK(rename("/tmp/f", "/tmp/g")); FAILS(stat("/tmp/f", &s), ENOENT); OK(stat("/tmp/g", &s));
    OK(link("/tmp/g", "/tmp/h")); OK(stat("/tmp/h", &s)); IS(s.st_nlink == 2);
    FAILS(link("/tmp/g", "/tmp/h"), EEXIST);
    OK(unlink("/tmp/g")); OK(stat("/tmp/h", &s)); IS(s.st_nlink == 1 && s.st_size == 15);
    fd = open("/tmp/h", O_RDONLY); OK(fd); OK(unlink("/tmp/h")); IS(read(fd, b, 5) == 5); FAILS(stat("/tmp/h", &s), ENOENT);
    FAILS(write(fd, "x", 1), EBADF); OK(close(fd));
    fd = open("/tmp/t", O_RDWR | O_CREAT | O_TRUNC, 0600); OK(fd); IS(write(fd, "abc", 3) == 3); OK(close(fd));
    fd = open("/tmp/t", O_WRONLY | O_TRUNC); OK(fd); OK(fstat(fd, &s)); IS(s.st_size == 0); OK(close(fd));
    struct timespec at[2] = {{100, 0}, {200, 5}};
    OK(utimensat(AT_FDCWD, "/tmp/t", at, 0)); OK(stat("/tmp/t", &s)); IS(s.st_atim.tv_sec == 100 && s.st_mtim.tv_nsec == 5);
    IS(access("/tmp/t", R_OK | W_OK) == 0);
    return 0;
}"#;
    ends_well(&given(), "files", &format!("{HEAD}{body}"));
}

#[test]
fn folders_are_made_listed_and_removed() {
    let body = r#"
int main(void) {
    struct stat s; char b[64];
    OK(mkdir("/tmp/d", 0755)); FAILS(mkdir("/tmp/d", 0755), EEXIST); FAILS(mkdir("/tmp/no/d", 0755), ENOENT);
    OK(mkdir("/tmp/d/e/", 0755)); OK(stat("/tmp/d/e", &s)); IS(S_ISDIR(s.st_mode));
    put("/tmp/d/f", "x"); FAILS(mkdir("/tmp/d/f/g", 0755), ENOTDIR); FAILS(open("/tmp/d/f/", O_RDONLY), ENOTDIR);
    FAILS(open("/tmp/d", O_RDWR), EISDIR); FAILS(open("/tmp/d/f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(rmdir("/tmp/d"), ENOTEMPTY); FAILS(rmdir("/tmp/d/f"), ENOTDIR); FAILS(unlink("/tmp/d/e"), EISDIR);
    IS(count("/tmp/d") == 4);
    OK(rename("/tmp/d/e", "/tmp/d/e2")); FAILS(rename("/tmp/d", "/tmp/d/e2/d"), EINVAL);
    FAILS(rename("/tmp/d/f", "/tmp/d/e2"), EISDIR); FAILS(rename("/tmp/d/e2", "/tmp/d/f"), ENOTDIR);
    OK(rmdir("/tmp/d/e2")); OK(unlink("/tmp/d/f")); OK(rmdir("/tmp/d")); FAILS(stat("/tmp/d", &s), ENOENT);
    OK(mkdir("/tmp/many", 0755));
    for (int i = 0; i < 1000; i++) { snprintf(b, 64, "/tmp/many/%d", i); put(b, "x"); }
    IS(count("/tmp/many") == 1002);
    // Removing while listing misses nothing.
    DIR *d = opendir("/tmp/many"); int removed = 0; struct dirent *e;
    while ((e = readdir(d))) if (e->d_name[0] != '.') { snprintf(b, 64, "/tmp/many/%s", e->d_name); OK(unlink(b)); removed++; }
    IS(removed == 1000); closedir(d); IS(count("/tmp/many") == 2);
    OK(symlink("many", "/tmp/link")); OK(lstat("/tmp/link", &s)); IS(S_ISLNK(s.st_mode));
    OK(stat("/tmp/link", &s)); IS(S_ISDIR(s.st_mode)); IS(readlink("/tmp/link", b, 64) == 4 && !memcmp(b, "many", 4));
    put("/tmp/link/z", "zz"); OK(stat("/tmp/many/z", &s)); IS(s.st_size == 2);
    OK(symlink("loop2", "/tmp/loop1")); OK(symlink("loop1", "/tmp/loop2")); FAILS(open("/tmp/loop1", O_RDONLY), ELOOP);
    FAILS(open("/tmp/link", O_RDONLY | O_NOFOLLOW), ELOOP); OK(unlink("/tmp/link")); OK(stat("/tmp/many/z", &s));
    OK(symlink("../../../../etc", "/tmp/up")); FAILS(open("/tmp/up/passwd", O_RDONLY), EPERM);
    FAILS(open("/../etc/passwd", O_RDONLY), EPERM); FAILS(symlink("/etc", "/tmp/abs"), EPERM);
    OK(open("/tmp/../tmp/./many/z", O_RDONLY));
    int dir = open("/tmp/many", O_RDONLY | O_DIRECTORY); OK(dir); OK(openat(dir, "z", O_RDONLY));
    FAILS(openat(dir, "../many/z", O_RDONLY), EPERM); IS(fstatat(dir, "z", &s, 0) == 0);
    char longest[400]; memset(longest, 'x', 399); longest[399] = 0; longest[0] = '/'; FAILS(open(longest, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
    OK(chdir("/tmp")); put("relative", "r"); OK(stat("/tmp/relative", &s));
    return 0;
}"#;
    ends_well(&given(), "folders", &format!("{HEAD}{body}"));
}

#[test]
fn inputs_cannot_be_changed() {
    let body = r#"
int main(void) {
    FAILS(open("/in/a/x", O_RDWR), EROFS); FAILS(open("/in/a/x", O_RDONLY | O_TRUNC), EROFS); FAILS(open("/in/a/new", O_RDWR | O_CREAT, 0600), EROFS);
    FAILS(unlink("/in/a/x"), EROFS); FAILS(rename("/in/a/x", "/tmp/x"), EROFS); FAILS(mkdir("/in/b", 0755), EROFS);
    FAILS(rmdir("/in/a"), EROFS); FAILS(rename("/tmp", "/in/t"), EROFS); FAILS(utimensat(AT_FDCWD, "/in/a/x", 0, 0), EROFS);
    char b[9]; int fd = open("/in/a/x", O_RDONLY); OK(fd); IS(read(fd, b, 9) == 3); FAILS(ftruncate(fd, 0), ENOTCAPABLE);
    IS(count("/in/a") == 5);
    return 0;
}"#;
    let mut given = given();
    given.inputs = vec![set("a", &[("x", 0, "abc"), ("y", 7, ""), ("lib%2Fm.py", 0, "z")])];
    ends_well(&given, "inputs", &format!("{HEAD}{body}"));
}

#[test]
fn what_is_copied_keeps_name_and_key() {
    let body = r#"
static void copy(const char *from, const char *to) {
    char b[4096]; FILE *f = fopen(from, "r"), *t = fopen(to, "w"); IS(f && t); size_t n;
    while ((n = fread(b, 1, sizeof b, f))) IS(fwrite(b, 1, n, t) == n); IS(!fclose(f) && !fclose(t));
}
static void all(const char *from, const char *to) {
    DIR *d = opendir(from); IS(d); struct dirent *e; char a[999], b[999]; mkdir(to, 0755);
    while ((e = readdir(d))) if (e->d_name[0] != '.') {
        snprintf(a, 999, "%s/%s", from, e->d_name); snprintf(b, 999, "%s/%s", to, e->d_name);
        if (e->d_type == DT_DIR) all(a, b); else copy(a, b);
    }
    closedir(d);
}
int main(void) { all("/in", "/out"); return 0; }"#;
    let mut given = given();
    let items = [
        ("x", 0, "abc"),
        ("x", 9, "d"),
        ("at@5", 0, "e"),
        ("100%", 1, "f"),
        ("l%2F%252F@3", 4, "g"),
        ("%252F", 0, "h"),
    ];
    given.inputs = vec![set("a", &items), set("b", &[("y", u64::MAX, "")])];
    let Some(mut program) = compile("copy", &format!("{HEAD}{body}")) else { return };
    let own = |set: &str, items: &[(&str, u64, &str)]| {
        let mut items: Vec<_> = items.iter().map(|item| (item.0.to_owned(), item.1, item.2.to_owned())).collect();
        items.sort();
        (set.to_owned(), items)
    };
    assert_eq!(plain(&given.run(&mut *program)), [own("a", &items), own("b", &[("y", u64::MAX, "")])]);
}

#[test]
fn large_outputs_lie_in_pages() {
    let body = r#"
int main(void) {
    char *b = malloc(1 << 20); memset(b, 7, 1 << 20);
    FILE *f = fopen("/out/o/big", "w"); IS(f); for (int i = 0; i < 5; i++) IS(fwrite(b, 1, 1 << 20, f) == 1 << 20); IS(!fclose(f));
    put("/out/o/small", "s"); symlink("big", "/out/o/same"); return 0;
}"#;
    let mut given = given();
    given.outputs = vec!["o".into()];
    let Some(mut program) = compile("large", &format!("{HEAD}{body}")) else { return };
    let finished = given.run(&mut *program);
    let outputs = finished.outcome.unwrap();
    let item = |name: &str| outputs[0].items.iter().find(|item| item.name == name).unwrap().data.clone();
    let (big, same) = (item("big"), item("same"));
    assert_eq!((big.len(), big.as_ptr()), (5 << 20, same.as_ptr()));
    assert!(big.pages().is_some() && item("small").pages().is_none() && big.iter().all(|byte| *byte == 7));
}

#[test]
fn streams_arguments_environment_and_clocks() {
    let body = r#"
int main(int argc, char **argv) {
    char line[64]; IS(argc == 3 && !strcmp(argv[2], "b c")); IS(!strcmp(getenv("K"), "v=w")); IS(!getenv("HOME"));
    IS(fgets(line, 64, stdin) && !strcmp(line, "one\n")); IS(fgets(line, 64, stdin) && !fgets(line, 64, stdin) && feof(stdin));
    struct timespec a, b, r; OK(clock_gettime(CLOCK_REALTIME, &a)); IS(a.tv_sec > 1700000000 && a.tv_nsec % 1000000 == 0);
    OK(clock_getres(CLOCK_MONOTONIC, &r)); IS(r.tv_nsec == 1000000);
    OK(clock_gettime(CLOCK_MONOTONIC, &a)); usleep(20000); OK(clock_gettime(CLOCK_MONOTONIC, &b));
    long ms = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000; IS(ms >= 19);
    struct pollfd p = {0, POLLIN, 0}; IS(poll(&p, 1, 1000) == 1 && p.revents & POLLIN);
    char e[16]; OK(getentropy(e, 16)); IS(!isatty(0) && !isatty(1));
    FAILS(lseek(0, 0, SEEK_SET), ESPIPE);
    int n = 0; while (open("/tmp", O_RDONLY | O_DIRECTORY) >= 0) n++; IS(n > 1000 && errno == EMFILE);
    fprintf(stderr, "said\n"); printf("%s", argv[1]); return 0;
}"#;
    let mut given = given();
    given.arguments = ["p", "answer", "b c"].map(str::to_owned).to_vec();
    given.environment = vec![("K".into(), "v=w".into())];
    given.stdin = Some(text("one\ntwo"));
    let Some(mut program) = compile("streams", &format!("{HEAD}{body}")) else { return };
    let finished = given.run(&mut *program);
    assert_eq!(plain(&finished)[0].1[0].2, "answer");
    assert_eq!(lossy(&finished.stderr), "said\n");
}

#[test]
fn folders_of_a_program_that_knows_no_sets() {
    let body = r#"
int main(void) {
    char b[9]; int fd = open("/desk/a/in.txt", O_RDWR); OK(fd); IS(read(fd, b, 9) == 3); IS(write(fd, "+", 1) == 1); OK(close(fd));
    OK(unlink("/desk/gone")); OK(mkdir("/desk/new", 0755)); put("/desk/new/f", "n"); printf("text"); return 0;
}"#;
    let mut given = given();
    given.folders = vec![Folder { set: "w".into(), path: "/desk".into() }];
    given.inputs = vec![set("w", &[("a%2Fin.txt", 0, "abc"), ("gone", 0, "x")])];
    let Some(mut program) = compile("folder", &format!("{HEAD}{body}")) else { return };
    let finished = given.run(&mut *program);
    let items = vec![("a%2Fin.txt".into(), 0, "abc+".into()), ("new%2Ff".into(), 0, "n".into())];
    assert_eq!(plain(&finished), [("w".to_owned(), items)]);
    assert_eq!(finished.stdout, b"text");
}

#[test]
fn failures_are_told_from_each_other() {
    let failing = |time: u64, body: &str| -> Option<RunError> {
        let mut program = compile("failing", &format!("{HEAD}{body}"))?;
        let mut given = given();
        given.time = Duration::from_millis(time);
        Some(given.run(&mut *program).outcome.unwrap_err())
    };
    let Some(abort) = failing(9_000, "int main(void) { abort(); }") else { return };
    assert_eq!(abort.code(), "Trap");
    assert_eq!(failing(9_000, "int main(void) { return 7; }"), Some(RunError::Exit(7)));
    assert_eq!(failing(100, "int main(void) { for (;;) usleep(1000); }"), Some(RunError::Timeout));
    let deep = "int f(volatile char *p) { volatile char b[512]; b[0] = *p; return f(b) + b[0]; } int main(void) { char c = 1; return f(&c); }";
    assert!(matches!(failing(9_000, deep), Some(RunError::Trap(_) | RunError::StackOverflow)));
    let greedy = "int main(void) { for (;;) { char *volatile p = malloc(1 << 20); if (!p) abort(); *p = 1; } }";
    assert_eq!(failing(20_000, greedy), Some(RunError::OutOfMemory { limit: 128 << 20 }));
}
