; The setup program of a terminal. `updater publish kit` compiles it.
;
; setup.exe [/S] [/D=C:\folder]     /D last, and without quotes
; Exit status: 0 done; 2 cancelled; 10 Windows too old; 11 32 bit; 12 Arm; 13 no administrator; 14 files cannot be
; written; 15 the kit does not run here, or is damaged; 16 in use; 17 no service; 75 the update server cannot be
; reached: the kit is in place, run it again; else what `updater install` ended with. The cause of each is a line in
; %TEMP%\tillkeeper-setup.log.
Target ${TARGET}
Unicode true
ManifestSupportedOS all
ManifestLongPathAware true
RequestExecutionLevel admin
SetCompressor /SOLID lzma
Name "${NAME}"
OutFile "${OUTPUT}"
InstallDir ""
VIProductVersion "${NUMBERS}"
VIAddVersionKey ProductName "${NAME}"
VIAddVersionKey ProductVersion "${VERSION}"
VIAddVersionKey FileVersion "${VERSION}"
VIAddVersionKey FileDescription "${NAME} setup"
VIAddVersionKey CompanyName "${VENDOR}"
VIAddVersionKey LegalCopyright "${VENDOR}"
!ifdef FINALIZE
!uninstfinalize '${FINALIZE} "%1"' = 0
!endif
!include LogicLib.nsh
!include x64.nsh
!include WinVer.nsh
!include FileFunc.nsh
!define KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\Tillkeeper-${APP}"
!define UPDATER '"$INSTDIR\${AGENT}\python\python.exe" -I -m updater'
Page directory
Page instfiles
UninstPage uninstConfirm
UninstPage instfiles

!macro Die CODE TEXT
  ${IfNot} ${Silent}
    MessageBox MB_ICONSTOP "${TEXT}"
  ${EndIf}
  ClearErrors
  FileOpen $9 "$TEMP\tillkeeper-setup.log" a
  FileSeek $9 0 END
  FileWrite $9 "${NAME} ${VERSION}: ${TEXT} (exit status ${CODE})$\r$\n"
  FileClose $9
  SetErrorLevel ${CODE}
  Quit
!macroend
!define Die "!insertmacro Die"

!macro Admin
  UserInfo::GetAccountType
  Pop $0
  ${If} $0 != "Admin"
    ${Die} 13 "An administrator must run this."
  ${EndIf}
  SetRegView 64
  SetShellVarContext all
!macroend

Function .onInit
  ${IfNot} ${AtLeastWin10}
    ${Die} 10 "Windows 10 or later is needed; this Windows is older."
  ${EndIf}
  ${If} ${IsNativeARM64}
    ${Die} 12 "Windows on Arm is not served."
  ${EndIf}
  ${IfNot} ${RunningX64}
    ${Die} 11 "A 64-bit Windows is needed; this one is 32-bit."
  ${EndIf}
  !insertmacro Admin
  ${If} $INSTDIR == ""
    ReadRegStr $INSTDIR HKLM "${KEY}" InstallLocation
  ${EndIf}
  ${If} $INSTDIR == ""
    StrCpy $INSTDIR "$PROGRAMFILES64\${NAME}"
  ${EndIf}
FunctionEnd

; The whole kit under another name, then one rename. A kit that is there already is not touched: it may run.
Function Unpack
  IfFileExists "$INSTDIR\${AGENT}\kit.json" done
  RMDir /r "$INSTDIR\${AGENT}.new"
  SetOutPath "$INSTDIR\${AGENT}.new"
  ClearErrors
  File /r "${PAYLOAD}/*"
  SetOutPath "$INSTDIR"
  ${IfNot} ${Errors}
    Rename "$INSTDIR\${AGENT}.new" "$INSTDIR\${AGENT}"
  ${EndIf}
  ${If} ${Errors}
    RMDir /r "$INSTDIR\${AGENT}.new"
    ${Die} 14 "Files cannot be written to $INSTDIR."
  ${EndIf}
done:
FunctionEnd

Section
  Call Unpack
  nsExec::ExecToLog '${UPDATER} kit place "$INSTDIR\${AGENT}"'
  Pop $0
  ${If} $0 != 0
    ; Damaged, by a power cut for example: put aside, and unpacked anew.
    ClearErrors
    System::Call 'kernel32::GetTickCount()i.r1'
    Rename "$INSTDIR\${AGENT}" "$INSTDIR\damaged-$1"
    ${If} ${Errors}
      ${Die} 15 "The kit in $INSTDIR\${AGENT} is damaged and in use ($0). Close the till, stop the service, run this again."
    ${EndIf}
    Call Unpack
    nsExec::ExecToLog '${UPDATER} kit place "$INSTDIR\${AGENT}"'
    Pop $0
    ${If} $0 != 0
      ${Die} 15 "The kit does not run here ($0)."
    ${EndIf}
    RMDir /r "$INSTDIR\damaged-$1"
  ${EndIf}

  ; Before the first version: what follows may have to be repeated, and what is here can be removed.
  WriteUninstaller "$INSTDIR\uninstall.exe"
  WriteRegStr HKLM "${KEY}" DisplayName "${NAME}"
  WriteRegStr HKLM "${KEY}" DisplayVersion "${VERSION}"
  WriteRegStr HKLM "${KEY}" Publisher "${VENDOR}"
  WriteRegStr HKLM "${KEY}" InstallLocation "$INSTDIR"
  WriteRegStr HKLM "${KEY}" UninstallString '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKLM "${KEY}" QuietUninstallString '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKLM "${KEY}" NoModify 1
  WriteRegDWORD HKLM "${KEY}" NoRepair 1
  ${GetSize} "$INSTDIR" "/S=0K" $0 $1 $2
  WriteRegDWORD HKLM "${KEY}" EstimatedSize $0

  nsExec::ExecToLog '${UPDATER} kit begin "$INSTDIR\${AGENT}"'
  Pop $0
  ${If} $0 == 75
    ${Die} 75 "The update server cannot be reached. The kit is in place; run this again."
  ${ElseIf} $0 != 0
    ${Die} $0 "The terminal cannot be installed. This says why: $INSTDIR\tillkeeper.exe kit begin $INSTDIR\${AGENT}"
  ${EndIf}
  ReadEnvStr $1 ProgramData
  nsExec::ExecToLog '${UPDATER} service install --settings "$1\Tillkeeper\${APP}\settings.toml"'
  Pop $0
  ${If} $0 != 0
    ${Die} 17 "The service cannot be installed ($0)."
  ${EndIf}

  SetOutPath "$INSTDIR"
  CreateDirectory "$SMPROGRAMS\${NAME}"
  CreateShortcut "$SMPROGRAMS\${NAME}\${NAME}.lnk" "$INSTDIR\tillkeeper-launch.exe"
  CreateShortcut "$SMPROGRAMS\${NAME}\Go back.lnk" "$INSTDIR\rescue\rollback.cmd"
  CreateShortcut "$SMSTARTUP\${NAME}.lnk" "$INSTDIR\tillkeeper-launch.exe"
  SetErrorLevel 0
SectionEnd

!macro RemoveAll PATTERN
  FindFirst $2 $3 "$INSTDIR\${PATTERN}"
  ${DoWhile} $3 != ""
    RMDir /r "$INSTDIR\$3"
    Delete "$INSTDIR\$3"
    FindNext $2 $3
  ${Loop}
  FindClose $2
!macroend
!define RemoveAll "!insertmacro RemoveAll"

Function un.onInit
  !insertmacro Admin
FunctionEnd

Section Uninstall
  ; The agent may have brought a newer kit: the program finds the one that runs, also without a pointer.
  IfFileExists "$INSTDIR\rescue\python\python.exe" 0 broken
  nsExec::ExecToLog '"$INSTDIR\rescue\python\python.exe" -I "$INSTDIR\tillkeeper.exe" kit remove'
  Pop $0
  ; 70: no kit is left.
  StrCmp $0 70 broken
  ${If} $0 != 0
    ${Die} 16 "The till is open, or its service does not end. Close the till, and remove this again; nothing was removed ($0)."
  ${EndIf}
  SetOutPath "$TEMP"
  ClearErrors
  IfFileExists "$INSTDIR\${AGENT}\kit.json" 0 broken
  Rename "$INSTDIR\${AGENT}" "$INSTDIR\${AGENT}.gone"
  ${If} ${Errors}
    ReadEnvStr $1 ProgramData
    nsExec::ExecToLog '${UPDATER} service install --settings "$1\Tillkeeper\${APP}\settings.toml"'
    Pop $0
    ${Die} 16 "A program of this kit runs. End it, and remove this again; nothing was removed."
  ${EndIf}
broken:
  ; The agent's folder is gone already: its service is what is left.
  nsExec::ExecToLog '"$SYSDIR\sc.exe" stop tillkeeper-${APP}'
  Pop $0
  nsExec::ExecToLog '"$SYSDIR\sc.exe" delete tillkeeper-${APP}'
  Pop $0
  Delete "$SMSTARTUP\${NAME}.lnk"
  Delete "$SMPROGRAMS\${NAME}\${NAME}.lnk"
  Delete "$SMPROGRAMS\${NAME}\Go back.lnk"
  RMDir "$SMPROGRAMS\${NAME}"
  Delete "$INSTDIR\tillkeeper.exe"
  Delete "$INSTDIR\tillkeeper-launch.exe"
  Delete "$INSTDIR\.old-*.exe"
  Delete "$INSTDIR\current.json"
  Delete "$INSTDIR\attempts.json"
  RMDir /r "$INSTDIR\versions"
  ${RemoveAll} "agent-*"
  ; What a cut has left: of a removal, a setup, a pointer, a count.
  ${RemoveAll} ".gone-*"
  ${RemoveAll} "damaged-*"
  ${RemoveAll} ".new-*"
  Delete "$INSTDIR\attempts.json.new"
  RMDir /r "$INSTDIR\rescue"
  ; Last: a cut before it can be repeated.
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"
  DeleteRegKey HKLM "${KEY}"
SectionEnd
