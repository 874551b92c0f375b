# Tab completion in bash:  eval "$(python -m experiments.run -sc install=bash)"  (or source this file)
_tinylora_completion() {
    local line=${COMP_LINE:0:$COMP_POINT} python=$1
    if [[ ${1##*/} == tinylora ]]; then # its first word is a command; those of `run` and `plan` are settings
        if ((COMP_CWORD < 2)); then
            COMPREPLY=($(compgen -W "$("$1" --help | sed -nE 's/^  ([a-z]+) .*/\1/p')" -- "$2"))
            return
        fi
        python=$(head -n 1 "$(command -v "$1")" | cut -c 3-)
        [[ $line =~ ^[^\ ]*\ +(run|plan)\ (.*)$ ]] && line=" -m experiments.run ${BASH_REMATCH[2]}"
    fi
    if [[ $line != *" -m experiments.run "* ]]; then
        COMPREPLY=($(compgen -o default -- "$2"))
        return
    fi
    local arguments=${line#* -m experiments.run }
    local word=${arguments##* }
    local choices
    choices=$(COMP_LINE="experiments.run $arguments" "$python" -m experiments.run -sc query=bash 2>/dev/null |
        sed -E 's/=[A-Z][A-Za-z]+\./=/g') # Precision.fp32: fp32
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=/}
complete -o nospace -o default -F _tinylora_completion python python3 tinylora
