#!/bin/sh
# Called by cargo as: rustc-wrapper.sh RUSTC ARGUMENTS...
#
# cargo derives `-C metadata` from the absolute path of memtrace-common, which lies outside of
# memtrace-ebpf's workspace. It ends up in symbol names and in the order of functions, so that every
# checkout would give another object. The two crates need no more than their names.
case " $* " in
*" --crate-name memtrace_"*)
    for argument; do
        shift
        case $argument in metadata=*) argument=metadata=memtrace ;; esac
        set -- "$@" "$argument"
    done
    ;;
esac
exec "$@"
