#!/bin/sh
cd {folder} || exit 1
trap : TERM
{exports}
export {models}={shared}
ls -d {shared}/*/ > /dev/null 2>&1 || {models}={of_nodes}/$(uname -n)
{command} < /dev/null
code=$?
printf '%-3d\n' $code 1<> {exit_code}
exit $code
