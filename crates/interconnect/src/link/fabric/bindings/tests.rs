//! The bindings against the headers, by a C compiler, where both are installed.

use super::*;
use std::fmt::Write as _;
use std::mem::offset_of;
use std::process::Command;

/// What C is asked, and what Rust says to it.
macro_rules! facts {
    ($($type:ident $c:literal { $($field:ident $name:literal),* })*) => {
        vec![$($((format!("offsetof(struct {}, {})", $c, $name), offset_of!($type, $field))),*),*]
    };
}

fn offsets() -> Vec<(String, usize)> {
    facts! {
        TxAttr "fi_tx_attr" { caps "caps", msg_order "msg_order", size "size", tclass "tclass" }
        RxAttr "fi_rx_attr" { caps "caps", msg_order "msg_order", size "size", iov_limit "iov_limit" }
        EpAttr "fi_ep_attr" { kind "type", protocol "protocol", max_msg_size "max_msg_size" }
        DomainAttr "fi_domain_attr" { name "name", threading "threading", av_type "av_type", mr_mode "mr_mode" }
        FabricAttr "fi_fabric_attr" { prov_name "prov_name", prov_version "prov_version", api_version "api_version" }
        Info "fi_info" { next "next", caps "caps", mode "mode", addr_format "addr_format", src_addrlen "src_addrlen",
            src_addr "src_addr", handle "handle", tx_attr "tx_attr", rx_attr "rx_attr", ep_attr "ep_attr",
            domain_attr "domain_attr", fabric_attr "fabric_attr", nic "nic" }
        Fid "fid" { class "fclass", context "context", ops "ops" }
        Ops "fi_ops" { close "close", bind "bind", control "control" }
        FidFabric "fid_fabric" { fid "fid", ops "ops" }
        OpsFabric "fi_ops_fabric" { size "size", domain "domain" }
        FidDomain "fid_domain" { fid "fid", ops "ops", mr "mr" }
        OpsDomain "fi_ops_domain" { av_open "av_open", cq_open "cq_open", endpoint "endpoint" }
        OpsMr "fi_ops_mr" { size "size", reg "reg" }
        FidMr "fid_mr" { fid "fid", mem_desc "mem_desc", key "key" }
        AvAttr "fi_av_attr" { kind "type", count "count", flags "flags" }
        FidAv "fid_av" { fid "fid", ops "ops" }
        OpsAv "fi_ops_av" { size "size", insert "insert" }
        CqAttr "fi_cq_attr" { size "size", format "format", wait_obj "wait_obj", wait_cond "wait_cond",
            wait_set "wait_set" }
        FidCq "fid_cq" { fid "fid", ops "ops" }
        OpsCq "fi_ops_cq" { read "read", readerr "readerr" }
        CqTaggedEntry "fi_cq_tagged_entry" { op_context "op_context", len "len", tag "tag" }
        CqErrEntry "fi_cq_err_entry" { op_context "op_context", olen "olen", err "err", prov_errno "prov_errno",
            err_data "err_data", err_data_size "err_data_size" }
        FidEp "fid_ep" { fid "fid", cm "cm", tagged "tagged" }
        OpsCm "fi_ops_cm" { getname "getname" }
        OpsTagged "fi_ops_tagged" { recv "recv", send "send" }
    }
}

fn sizes() -> Vec<(String, usize)> {
    let sizes = [
        ("struct fi_info", size_of::<Info>()),
        ("struct fi_av_attr", size_of::<AvAttr>()),
        ("struct fi_cq_attr", size_of::<CqAttr>()),
        ("struct fi_cq_tagged_entry", size_of::<CqTaggedEntry>()),
        ("struct fi_cq_err_entry", size_of::<CqErrEntry>()),
        ("struct fi_context2", size_of::<Context>()),
    ];
    sizes.into_iter().map(|(name, size)| (format!("sizeof({name})"), size)).collect()
}

fn constants() -> Vec<(String, usize)> {
    let constants = [
        ("FI_RECV", FI_RECV as usize),
        ("FI_SEND", FI_SEND as usize),
        ("FI_TAGGED", FI_TAGGED as usize),
        ("FI_SOURCE", FI_SOURCE as usize),
        ("FI_ORDER_SAS", FI_ORDER_SAS as usize),
        ("FI_CONTEXT", FI_CONTEXT as usize),
        ("FI_CONTEXT2", FI_CONTEXT2 as usize),
        ("FI_MR_LOCAL", FI_MR_LOCAL as usize),
        ("FI_MR_VIRT_ADDR", FI_MR_VIRT_ADDR as usize),
        ("FI_MR_ALLOCATED", FI_MR_ALLOCATED as usize),
        ("FI_MR_PROV_KEY", FI_MR_PROV_KEY as usize),
        ("FI_EP_RDM", FI_EP_RDM as usize),
        ("FI_THREAD_DOMAIN", FI_THREAD_DOMAIN as usize),
        ("FI_ENABLE", FI_ENABLE as usize),
        ("FI_CQ_FORMAT_TAGGED", FI_CQ_FORMAT_TAGGED as usize),
        ("FI_EAVAIL", FI_EAVAIL as usize),
        ("FI_ADDR_UNSPEC", FI_ADDR_UNSPEC as usize),
        ("FI_VERSION(1, 9)", API_VERSION as usize),
    ];
    constants.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[test]
fn the_headers_say_the_same() {
    let header = std::fs::read_to_string("/usr/include/rdma/fabric.h").unwrap_or_default();
    // Those of version 2 describe other structures; its library has the ones of version 1 as well.
    if !header.lines().any(|line| line.trim() == "#define FI_MAJOR_VERSION 1") {
        println!("skip: the headers of libfabric 1 are not installed (libfabric-dev)");
        return;
    }
    let mut program = String::from("#include <stddef.h>\n");
    for header in ["fabric", "fi_domain", "fi_endpoint", "fi_eq", "fi_cm", "fi_tagged"] {
        writeln!(program, "#include <rdma/{header}.h>").unwrap();
    }
    for (fact, value) in offsets().into_iter().chain(sizes()).chain(constants()) {
        writeln!(program, "_Static_assert((unsigned long long)({fact}) == {value}ull, \"{fact} is not {value}\");")
            .unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("facts.c");
    std::fs::write(&source, program).unwrap();
    let compiled = Command::new("cc").args(["-fsyntax-only", "-std=c11"]).arg(&source).output();
    let Ok(compiled) = compiled else {
        println!("skip: no C compiler");
        return;
    };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}
