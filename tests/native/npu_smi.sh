#!/bin/sh
# A stand-in for Huawei's `npu-smi`: what its reference says of vNPUs, kept in files that outlive whoever asks.
#
# Purpose: tests put it on a node as npu-smi. It speaks
#
#   npu-smi info -t info-vnpu -i CARD -c CHIP                      a table: how many, then one row each
#   npu-smi set -t create-vnpu -i CARD -c CHIP -f TEMPLATE -v N    makes vNPU N by a template
#   npu-smi set -t destroy-vnpu -i CARD -c CHIP -v N               removes it
#
# and refuses, as a driver has to, a number that is taken or not one of the chip's, AI cores that the chip does
# not have free, and the removal of what is not there or in use.
#
# Beside it lies `npu-smi.folder`, which names the folder of its files, in lines of words:
#
#   chips     CARD CHIP FIRST-NUMBER AI-CORES    the chips of the node
#   vnpus     CARD CHIP NUMBER TEMPLATE          what they are cut into
#   busy      NUMBER                             vNPUs that a program uses
#   changes   everything that was asked to be changed, with "done" or why not
#   dev       a folder: here the driver makes a vNPU's device node (an empty file), if it is there
#   kill      N MOMENT WHAT                      at its N-th call from now on SIGKILL goes to whoever asks, before
#                                                it does anything ("asked"), when it has changed what it has to
#                                                ("changed"), or when it has answered ("told"). WHAT is "both" if it
#                                                dies then itself, "other" if it goes on, "self" if it dies alone;
#   wait                                         a file: the next change is waited with when it is done, as long as
#                                                there is a file "waits"
#
# Limits: the AI cores of a template are read from its name (vir05_1c_16g has 5). Two changes at the same moment are
# not kept apart: who asks does that, or does not ask twice.
read -r folder < "$0.folder"
number=0 left=0 moment='' what=''

at() {
    [ "$moment" = "$1" ] && [ "$left" = 1 ] || return 0
    rm -f "$folder/kill"
    [ "$what" = self ] || kill -9 "$PPID"
    [ "$what" = other ] || kill -9 $$
}

done_with_it() {
    printf '%s: done\n' "$asked" >> "$folder/changes"
    if [ -e "$folder/wait" ]; then
        mv "$folder/wait" "$folder/waits"
        while [ -e "$folder/waits" ]; do sleep 0.1; done
    fi
    at changed
}

refuse() {
    printf '%s: %s\n' "$asked" "$1" >> "$folder/changes"
    printf 'Error: %s\n' "$1"
    exit 1
}

if [ -f "$folder/kill" ]; then
    read -r left moment what < "$folder/kill"
    if [ "${left:-0}" -gt 1 ]; then echo "$((left - 1)) $moment $what" > "$folder/kill"; fi
fi
at asked

asked="$*" verb=$1 card='' chip='' template='' about=''
shift
while [ $# -gt 1 ]; do
    case $1 in
    -t) about=$2 ;;
    -i) card=$2 ;;
    -c) chip=$2 ;;
    -f) template=$2 ;;
    -v) number=$2 ;;
    *) refuse "unknown option $1" ;;
    esac
    shift 2
done

first='' cores=0
while read -r one two start size; do
    if [ "$one $two" = "$card $chip" ]; then first=$start cores=$size; fi
done < "$folder/chips"
[ -n "$first" ] || refuse "there is no chip $chip on card $card"

cores_of() {
    name=${1#vir}
    name=${name%%_*}
    of_template=${name#0}
}

rows='' kept='' found='' count=0
while read -r one two three four; do
    line="$one $two $three $four"
    if [ "$one $two" = "$card $chip" ]; then
        count=$((count + 1))
        cores_of "$four"
        cores=$((cores - of_template))
        rows="$rows|  $three |  0             |  000000000000  |  0       |  $four |
"
        if [ "$three" = "$number" ]; then
            found=$line
            continue
        fi
    fi
    kept="$kept$line
"
done < "$folder/vnpus"

write() {
    printf '%s' "$1" > "$folder/.vnpus.$$"
    mv "$folder/.vnpus.$$" "$folder/vnpus"
}

line='+-------------------------------------------------------------------------------+'
case $verb$about in
infoinfo-vnpu)
    printf '%s\n| Total number of vnpu: %-57s|\n%s\n' "$line" "$count" "$line"
    printf '|  Vnpu ID  |  Vgroup ID     |  Container ID  |  Status  |  Template Name        |\n%s\n' "$line"
    printf '%s%s\n' "$rows" "$line"
    at changed
    ;;
setcreate-vnpu)
    [ -z "$found" ] || refuse "vnpu $number is there already"
    if [ "$number" -lt "$first" ] || [ "$number" -ge $((first + 16)) ]; then refuse "vnpu $number is not one of this chip's"; fi
    cores_of "$template"
    [ "$of_template" -le "$cores" ] || refuse "$cores AI cores are free"
    write "$kept$card $chip $number $template
"
    if [ -d "$folder/dev" ]; then : > "$folder/dev/vdavinci$number"; fi
    done_with_it
    printf 'Status : OK\nMessage : Create vnpu success\n'
    ;;
setdestroy-vnpu)
    [ -n "$found" ] || refuse "there is no vnpu $number"
    while read -r one; do
        [ "$one" != "$number" ] || refuse "vnpu $number is in use"
    done < "$folder/busy"
    write "$kept"
    rm -f "$folder/dev/vdavinci$number"
    done_with_it
    printf 'Status : OK\nMessage : Destroy vnpu success\n'
    ;;
*) refuse "unknown question" ;;
esac
at told
